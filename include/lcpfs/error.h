/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of lcpfs.
 *
 * Every function that can fail returns an int: 0, or the negative of one of these codes. The list gives each code
 * its name, the errno that an edge (the NBD plugin, a C caller that wants errno) maps it to, and a sentence. Where
 * a function takes a `struct lcpfs_failure *`, it fills it on failure with one line that says what happened to
 * which pool, partition and block, and what to do; the pointer may be NULL.
 */
#ifndef LCPFS_ERROR_H
#define LCPFS_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* X(NAME, errno, "sentence") */
#define LCPFS_ERRORS(X)                                                                                           \
	X(IO, EIO, "a device operation failed")                                                                   \
	X(CORRUPT, EIO, "a checksum or a structure on the device is wrong")                                       \
	X(NOSPC, ENOSPC, "no space left")                                                                         \
	X(DEVICE_FULL, ENOSPC, "the file system under the pool file is full")                                     \
	X(NOMEM, ENOMEM, "out of memory")                                                                         \
	X(INVALID, EINVAL, "an argument is not acceptable")                                                       \
	X(RANGE, EINVAL, "the range lies outside the volume")                                                     \
	X(NOT_FOUND, ENOENT, "no such partition")                                                                 \
	X(EXISTS, EEXIST, "it exists already")                                                                    \
	X(BUSY, EBUSY, "in use")                                                                                  \
	X(NOT_A_POOL, EINVAL, "not an lcpfs pool")                                                                \
	X(VERSION, ENOTSUP, "made by a newer lcpfs, or uses a feature that this one does not know")               \
	X(READ_ONLY, EROFS, "opened read-only")                                                                   \
	X(FAULTED, EIO, "the partition stopped after an error; open the pool anew")                               \
	X(TOO_SMALL, ENOSPC, "cannot shrink that far")                                                            \
	X(STOPPED, ESHUTDOWN, "stopped")                                                                          \
	X(SYSTEM, EIO, "a system call failed")                                                                    \
	X(SHRUNK, EIO, "the device or file has become smaller than the pool")                                     \
	X(TAKEN_OVER, EIO, "another process or machine has taken the pool over")                                  \
	X(AGAIN, EAGAIN, "it would have to wait")                                                                 \
	X(NOT_EMPTY, ENOTEMPTY, "it holds data")                                                                  \
	X(CLONED, EBUSY, "there are clones of it")

enum lcpfs_error {
	LCPFS_OK = 0,
#define LCPFS_ERROR_ENUM(name, err, sentence) LCPFS_E_##name,
	LCPFS_ERRORS(LCPFS_ERROR_ENUM)
#undef LCPFS_ERROR_ENUM
		LCPFS_E_END
};

struct lcpfs_failure {
	int code;          /* 0 or the positive enum value */
	char message[500]; /* one line, no newline at its end; "" where there is none */
};

/*
 * `error` may be given as returned (negative) or as the enum value; unknown values give "unknown error" and EIO.
 */
const char *lcpfs_error_name(int error);
const char *lcpfs_error_sentence(int error);
int lcpfs_error_errno(int error); /* a positive errno */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
