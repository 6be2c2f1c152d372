/* SPDX-License-Identifier: Apache-2.0 */
/* Requests by the book, one rule each; what is under way together is in search.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "client.h"
#include "serve/be.h"
#include "serve/parts.h"

enum { VOLUME_BYTES = 40 << 20 };

static struct world w;
static struct client c;

static void begin_with(enum wire_style style)
{
	world_begin(&w, 7, (struct world_nature){0}, VOLUME_BYTES);
	client_begin(&c, &w);
	client_shake_hands(&c, style, style != WIRE_SIMPLE, false);
}

static void end(void)
{
	client_free(&c);
	world_end(&w);
}

/* A header as given, with `payload` zeros behind it. */
static void send_raw(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length, size_t payload)
{
	uint8_t header[32], *at = header;
	bool extended = c.style == WIRE_EXTENDED;
	static const uint8_t zeros[4096];
	at = be32_put(at, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	at = be64_put(be16_put(be16_put(at, flags), type), 77);
	at = be64_put(at, offset);
	at = extended ? be64_put(at, length) : be32_put(at, (uint32_t)length);
	world_send(&w, header, (size_t)(at - header));
	for (; payload; payload -= MIN_OF(payload, sizeof(zeros)))
		world_send(&w, zeros, MIN_OF(payload, sizeof(zeros)));
	world_settle(&w);
}

static const uint8_t *take(size_t length)
{
	const uint8_t *at = w.to_client.data + c.taken;
	assert_true(w.to_client.length - c.taken >= length);
	c.taken += length;
	return at;
}

/* The reply to send_raw has to be this error, 0 for none; and nothing more has come. */
static void answered(uint32_t error)
{
	const uint8_t *at = take(16);
	uint64_t length;
	if (be32_get(at) == NBD_SIMPLE_REPLY_MAGIC) {
		assert_int_equal(be32_get(at + 4), error);
		assert_true(be64_get(at + 8) == 77);
	} else {
		assert_int_equal(be32_get(at),
				 c.style == WIRE_EXTENDED ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
		assert_int_equal(be16_get(at + 6), error ? NBD_REPLY_TYPE_ERROR : NBD_REPLY_TYPE_NONE);
		length = c.style == WIRE_EXTENDED ? be64_get(take(16) + 8) : be32_get(take(4));
		at = take((size_t)length);
		assert_true(!error || be32_get(at) == error);
	}
	assert_int_equal(w.to_client.length, c.taken);
}

static void what_is_no_request_ends_the_connection(void **state)
{
	static const uint8_t other[32] = {0x12, 0x56, 0x09, 0x53};
	(void)state;
	for (enum wire_style style = WIRE_SIMPLE; style <= WIRE_EXTENDED; style++) {
		begin_with(style);
		world_send(&w, other, sizeof(other));
		world_settle(&w);
		assert_null(w.connection);
		end();
	}
}

static void a_disconnect_is_obeyed_when_all_is_answered(void **state)
{
	(void)state;
	begin_with(WIRE_SIMPLE);
	w.nature.waits = 100;
	client_send(&c, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 4096, 0);
	client_send(&c, NBD_CMD_READ, 0, 8192, 4096, 0);
	client_send_disconnect(&c);
	world_send(&w, "more", 4);
	client_check_end(&c);
	assert_null(w.connection);
	assert_null(w.why);
	assert_true(w.is_finished);
	end();
}

static void nothing_at_all_is_done(void **state)
{
	(void)state;
	begin_with(WIRE_STRUCTURED);
	for (uint16_t type = NBD_CMD_READ; type <= NBD_CMD_WRITE_ZEROES; type++) {
		if (type == NBD_CMD_DISC)
			continue;
		send_raw(type, 0, 0, 0, 0);
		answered(0);
	}
	send_raw(NBD_CMD_BLOCK_STATUS, 0, 0, 0, 0);
	answered(NBD_EINVAL);
	end();
}

static void a_compact_write_that_is_too_long_is_taken_and_refused(void **state)
{
	(void)state;
	begin_with(WIRE_STRUCTURED);
	send_raw(NBD_CMD_WRITE, 0, 0, WIRE_PAYLOAD_MAX + 4096, WIRE_PAYLOAD_MAX + 4096);
	answered(NBD_EINVAL);
	assert_true(w.held_most <= MEMORY_RESERVE);
	send_raw(NBD_CMD_FLUSH, 0, 0, 0, 0);
	answered(0);
	end();
}

static void an_extended_payload_that_is_too_long_ends_the_connection(void **state)
{
	(void)state;
	begin_with(WIRE_EXTENDED);
	send_raw(NBD_CMD_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, 0, UINT64_C(1) << 32, 0);
	assert_null(w.connection);
	end();
}

static void an_extended_write_needs_the_payload_flag(void **state)
{
	(void)state;
	begin_with(WIRE_EXTENDED);
	send_raw(NBD_CMD_WRITE, 0, 0, 4096, 0);
	answered(NBD_EINVAL);
	send_raw(NBD_CMD_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 4096, 4096);
	answered(0);
	end();
}

static void a_payload_that_a_command_does_not_take_is_consumed(void **state)
{
	static const uint16_t types[] = {NBD_CMD_READ,  NBD_CMD_FLUSH,        NBD_CMD_TRIM,
					 NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, 55};
	(void)state;
	begin_with(WIRE_EXTENDED);
	for (size_t i = 0; i < ARRAY_LENGTH(types); i++) {
		send_raw(types[i], NBD_CMD_FLAG_PAYLOAD_LEN, 0, 100000, 100000);
		answered(NBD_EINVAL);
	}
	end();
}

static void compact_requests_know_no_payload_flag(void **state)
{
	(void)state;
	begin_with(WIRE_STRUCTURED);
	send_raw(NBD_CMD_READ, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 512, 0);
	answered(NBD_EINVAL);
	send_raw(NBD_CMD_WRITE, NBD_CMD_FLAG_PAYLOAD_LEN, 0, 512, 512);
	answered(NBD_EINVAL);
	end();
}

static void send_status(const uint8_t *payload, size_t length)
{
	uint8_t header[32], *at = header;
	at = be16_put(be32_put(at, NBD_EXTENDED_REQUEST_MAGIC), NBD_CMD_FLAG_PAYLOAD_LEN);
	at = be64_put(be64_put(be64_put(be16_put(at, NBD_CMD_BLOCK_STATUS), 77), 4096), length);
	world_send(&w, header, sizeof(header));
	world_send(&w, payload, length);
	world_settle(&w);
}

static void a_block_status_can_name_its_contexts(void **state)
{
	uint8_t payload[16] = {0};
	(void)state;
	begin_with(WIRE_EXTENDED);
	be32_put(be32_put(be64_put(payload, 8192), 1), 1);
	send_status(payload, 12);
	assert_memory_equal(take(56),
			    "\x6e\x8a\x27\x8c\0\1\0\6\0\0\0\0\0\0\0\x4d\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\x18"
			    "\0\0\0\1\0\0\0\1\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\0\3",
			    56);
	send_status(payload, 9); /* with what followed before, it would be the same again */
	answered(NBD_EINVAL);
	send_status(payload, 8); /* none */
	answered(NBD_EINVAL);
	send_status(payload, 16); /* the same twice */
	answered(NBD_EINVAL);
	be32_put(payload + 8, 2); /* one that was not selected */
	send_status(payload, 12);
	answered(NBD_EINVAL);
	send_status(payload, 4);
	answered(NBD_EINVAL);
	be64_put(payload, VOLUME_BYTES); /* beyond the end, from 4096 */
	be32_put(payload + 8, 1);
	send_status(payload, 12);
	answered(NBD_EINVAL);
	end();
}

static void lengths_without_end_are_refused(void **state)
{
	static const uint64_t lengths[] = {UINT64_MAX, UINT64_C(1) << 63, (UINT64_C(1) << 32) - 1};
	static const uint16_t types[] = {NBD_CMD_READ, NBD_CMD_TRIM, NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES,
					 NBD_CMD_BLOCK_STATUS};
	(void)state;
	begin_with(WIRE_EXTENDED);
	for (size_t i = 0; i < ARRAY_LENGTH(types); i++) {
		for (size_t n = 0; n < ARRAY_LENGTH(lengths); n++) {
			send_raw(types[i], 0, 4096, lengths[n], 0);
			answered(types[i] == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL);
			send_raw(types[i], 0, UINT64_MAX - 4095, 4096, 0);
			answered(types[i] == NBD_CMD_WRITE_ZEROES ? NBD_ENOSPC : NBD_EINVAL);
		}
	}
	end();
}

static void a_read_only_export_refuses_changes(void **state)
{
	static const uint8_t hello[] = "\0\0\0\1" "IHAVEOPT\0\0\0\7\0\0\0\x08\0\0\0\2ro\0\0";
	static const uint16_t types[] = {NBD_CMD_WRITE, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES};
	(void)state;
	world_begin(&w, 7, (struct world_nature){0}, VOLUME_BYTES);
	client_begin(&c, &w);
	world_send(&w, hello, sizeof(hello) - 1);
	world_settle(&w);
	c.taken = w.to_client.length;
	for (size_t i = 0; i < ARRAY_LENGTH(types); i++) {
		send_raw(types[i], 0, 0, 512, types[i] == NBD_CMD_WRITE ? 512 : 0);
		answered(NBD_EPERM);
	}
	send_raw(NBD_CMD_FLUSH, 0, 0, 0, 0);
	answered(0);
	end();
}

static void what_cannot_be_read_is_an_error_with_a_sentence(void **state)
{
	(void)state;
	for (enum wire_style style = WIRE_SIMPLE; style <= WIRE_EXTENDED; style++) {
		begin_with(style);
		w.volumes[0].bad_from = 300000;
		w.volumes[0].bad_to = 300001;
		client_send(&c, NBD_CMD_READ, 0, 299008, 4096, NBD_EIO);
		client_check_end(&c);
		const char *sentence = "partition db, block 73";
		bool told = memmem(w.to_client.data, w.to_client.length, sentence, strlen(sentence));
		assert_int_equal(told, style != WIRE_SIMPLE);
		client_send(&c, NBD_CMD_READ, 0, 0, 3000000, NBD_EIO);
		client_send(&c, NBD_CMD_READ, 0, 0, 4096, 0);
		client_send(&c, NBD_CMD_CACHE, 0, 0, 3000000, NBD_EIO);
		client_check_end(&c);
		assert_int_equal(w.failures, 3);
		end();
	}
}

/*
 * A read that cannot be split and is longer than the memory there is: read through, then read again as it is sent.
 */
static void a_long_unsplit_read_takes_little_memory(void **state)
{
	(void)state;
	begin_with(WIRE_SIMPLE);
	client_send(&c, NBD_CMD_READ, 0, 4096, WIRE_PAYLOAD_MAX, 0);
	client_send(&c, NBD_CMD_READ, 0, 0, 512, 0);
	client_check_end(&c);
	assert_true(w.held_most <= 3 * MEMORY_RESERVE);
	w.volumes[0].bad_from = 20 << 20;
	w.volumes[0].bad_to = w.volumes[0].bad_from + 1;
	client_send(&c, NBD_CMD_READ, 0, 4096, WIRE_PAYLOAD_MAX, NBD_EIO);
	client_check_end(&c);
	end();
}

static void what_goes_bad_while_it_is_sent_cuts_the_connection(void **state)
{
	(void)state;
	begin_with(WIRE_SIMPLE);
	w.nature.stalls = 90;
	client_send(&c, NBD_CMD_READ, 0, 4096, WIRE_PAYLOAD_MAX, 0);
	while (w.to_client.length < c.taken + (1 << 20))
		assert_true(world_step(&w));
	w.volumes[0].bad_from = 20 << 20;
	w.volumes[0].bad_to = w.volumes[0].bad_from + 1;
	world_settle(&w);
	assert_null(w.connection);
	assert_non_null(w.why);
	assert_true(w.to_client.length < 24 << 20);
	end();
}

static void flushes_that_wait_share_one(void **state)
{
	(void)state;
	begin_with(WIRE_SIMPLE);
	for (int i = 0; i < 20; i++)
		client_send(&c, NBD_CMD_FLUSH, 0, 0, 0, 0);
	client_check_end(&c);
	assert_in_range(w.volumes[0].flushes, 1, 3);
	end();
}

/* What somebody in the middle put behind STARTTLS is not the client's, though it had come before TLS was begun. */
static void what_comes_between_starttls_and_tls_ends_the_connection(void **state)
{
	static const uint8_t start[] = "\0\0\0\3" "IHAVEOPT\0\0\0\5\0\0\0\0", list[] = "IHAVEOPT\0\0\0\3\0\0\0\0";
	(void)state;
	for (size_t more = 0; more < sizeof(list); more += 8) {
		world_begin(&w, 7, (struct world_nature){0}, VOLUME_BYTES);
		w.connection->handshake->tls = SERVE_TLS_ON;
		client_begin(&c, &w);
		world_send(&w, start, sizeof(start) - 1);
		world_send(&w, list, more);
		world_settle(&w);
		assert_int_equal(!w.connection, more > 0);
		assert_int_equal(w.why != NULL, more > 0);
		end();
	}
}

/* Others have turns, too: the next flush is a worker's. */
static void seem_busy(void)
{
	w.host.last = NULL;
}

/* -- errors reach whoever asked -- */

static void a_flush_that_fails_is_told(void **state)
{
	(void)state;
	begin_with(WIRE_STRUCTURED);
	w.volumes[0].flush_error = -LCPFS_E_IO;
	for (unsigned i = 0; i < 12; i++) { /* by workers, and without */
		if (i < 2)
			seem_busy();
		send_raw(NBD_CMD_FLUSH, 0, 0, 0, 0);
		answered(NBD_EIO);
		if (i < 2)
			seem_busy();
		send_raw(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 4096, 4096);
		answered(NBD_EIO);
	}
	send_raw(NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, 4096, 0);
	answered(NBD_EIO);
	send_raw(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FUA, 0, 4096, 0);
	answered(NBD_EIO);
	send_raw(NBD_CMD_WRITE, 0, 0, 4096, 4096); /* it promises nothing */
	answered(0);
	end();
}

static void what_cannot_be_written_says_why(void **state)
{
	static const struct {
		int error;
		uint32_t told;
	} list[] = {{-LCPFS_E_NOSPC, NBD_ENOSPC}, {-LCPFS_E_DEVICE_FULL, NBD_ENOSPC}, {-LCPFS_E_IO, NBD_EIO},
		    {-LCPFS_E_FAULTED, NBD_EIO},  {-LCPFS_E_NOMEM, NBD_ENOMEM}};
	(void)state;
	begin_with(WIRE_STRUCTURED);
	for (size_t i = 0; i < ARRAY_LENGTH(list); i++) {
		w.volumes[0].write_error = list[i].error;
		send_raw(NBD_CMD_WRITE, 0, 0, 4096, 4096);
		answered(list[i].told);
		send_raw(NBD_CMD_WRITE, 0, 0, 3 << 20, 3 << 20); /* in pieces */
		answered(list[i].told);
		send_raw(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, 4096, 0);
		answered(list[i].told);
	}
	end();
}

/* The part of the map that can be read is an answer; what cannot is no hole. */
static void what_the_map_does_not_tell_is_not_told(void **state)
{
	(void)state;
	begin_with(WIRE_STRUCTURED);
	memset(w.volumes[0].written, true, 2);
	w.volumes[0].lost_from = 5 * 4096;
	send_raw(NBD_CMD_BLOCK_STATUS, 0, 0, 8 * 4096, 0);
	const uint8_t *at = take(20 + 4 + 2 * 8);
	assert_int_equal(be32_get(at + 16), 4 + 2 * 8);
	assert_int_equal(be32_get(at + 24), 2 * 4096);
	assert_int_equal(be32_get(at + 28), 0);
	assert_int_equal(be32_get(at + 32), 3 * 4096);
	assert_int_equal(be32_get(at + 36), NBD_STATE_HOLE | NBD_STATE_ZERO);
	send_raw(NBD_CMD_BLOCK_STATUS, 0, 5 * 4096, 4096, 0);
	answered(NBD_EIO);
	end();
}

static void zeros_that_keep_their_space_are_no_hole(void **state)
{
	(void)state;
	begin_with(WIRE_SIMPLE);
	memset(w.volumes[0].data, 1, 3 * 4096);
	send_raw(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, 2 * 4096, 0);
	answered(0);
	assert_int_equal(w.volumes[0].data[0] | w.volumes[0].data[2 * 4096 - 1], 0);
	assert_int_equal(w.volumes[0].data[2 * 4096], 1);
	assert_true(w.volumes[0].written[0] && w.volumes[0].written[1]);
	send_raw(NBD_CMD_WRITE_ZEROES, 0, 0, 4096, 0);
	answered(0);
	assert_false(w.volumes[0].written[0]);
	end();
}

/* A flush, or a write with FUA, as one turn: is the answer there at its end? */
static bool is_flushed_at_once(uint16_t type)
{
	uint8_t header[28] = {0}, *at = be16_put(be32_put(header, NBD_REQUEST_MAGIC), NBD_CMD_FLAG_FUA);
	static const uint8_t data[WORLD_BLOCK];
	unsigned flushes = w.volumes[0].flushes;
	at = be64_put(be16_put(at, type), 77);
	be32_put(be64_put(at, 0), type == NBD_CMD_WRITE ? WORLD_BLOCK : 0);
	if (type == NBD_CMD_FLUSH)
		be16_put(header + 4, 0);
	world_send(&w, header, sizeof(header));
	if (type == NBD_CMD_WRITE)
		world_send(&w, data, sizeof(data));
	connection_turn(w.connection, true);
	bool at_once = w.to_client.length - c.taken == 16;
	assert_int_equal(w.volumes[0].flushes, flushes + at_once);
	world_settle(&w);
	answered(0);
	assert_int_equal(w.volumes[0].flushes, flushes + 1);
	return at_once;
}

static void pause_ms(unsigned ms)
{
	struct timespec pause = {.tv_nsec = (long)ms * 1000 * 1000};
	nanosleep(&pause, NULL);
}

static void is_slow(struct world_volume *volume)
{
	(void)volume;
	pause_ms(2);
}

/* After a while; once in a while the machine is busy, and a flush seems long. */
static bool comes_to_be_flushed_at_once(uint16_t type)
{
	unsigned at_once = 0;
	for (unsigned i = 0; i < 20; i++)
		at_once += is_flushed_at_once(type);
	return at_once > 0;
}

/* A worker is for those who would wait for others, or let them wait. */
static void who_is_alone_is_flushed_at_once(void **state)
{
	static const uint16_t types[] = {NBD_CMD_FLUSH, NBD_CMD_WRITE};
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		begin_with(WIRE_SIMPLE);
		seem_busy();
		assert_false(is_flushed_at_once(types[i]));
		assert_true(comes_to_be_flushed_at_once(types[i]));
		seem_busy();
		assert_false(is_flushed_at_once(types[i]));
		assert_true(comes_to_be_flushed_at_once(types[i]));
		w.volumes[0].flushing = is_slow;
		(void)is_flushed_at_once(types[i]);
		w.volumes[0].flushing = NULL;
		assert_false(is_flushed_at_once(types[i])); /* the last one took long */
		assert_true(comes_to_be_flushed_at_once(types[i]));
		for (unsigned n = 0; n < 10; n++) {
			send_raw(NBD_CMD_WRITE, 0, 0, 32768, 32768);
			answered(0);
		}
		assert_false(is_flushed_at_once(types[i])); /* there is much to be written */
		assert_true(comes_to_be_flushed_at_once(types[i]));
		send_raw(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 0, 512 << 10, 0);
		answered(0);
		assert_false(is_flushed_at_once(types[i])); /* that was much, too */
		assert_true(comes_to_be_flushed_at_once(types[i]));
		pause_ms(30);
		assert_false(is_flushed_at_once(types[i])); /* who knows what others have written since */
		assert_true(comes_to_be_flushed_at_once(types[i]));
		end();
	}
}

static struct flush_waiter latecomer;
static bool is_served;

static void note_served(struct task *task)
{
	(void)task;
	is_served = true;
}

static void somebody_else_flushes(struct world_volume *volume)
{
	volume->flushing = NULL;
	latecomer.task = (struct task){.done = note_served, .home = &w.host.mailbox};
	export_flush(w.connection->export, &latecomer);
}

static void who_comes_amid_one_at_once_gets_a_worker(void **state)
{
	(void)state;
	begin_with(WIRE_SIMPLE);
	assert_true(comes_to_be_flushed_at_once(NBD_CMD_FLUSH));
	unsigned flushes = w.volumes[0].flushes;
	is_served = false;
	w.volumes[0].flushing = somebody_else_flushes;
	send_raw(NBD_CMD_FLUSH, 0, 0, 0, 0);
	answered(0);
	assert_true(is_served);
	assert_int_equal(w.volumes[0].flushes, flushes + 2);
	end();
}

static void another_flush_comes(struct world_volume *volume)
{
	uint8_t header[28] = {0};
	if (volume->flushes > 1)
		return;
	be16_put(be16_put(be32_put(header, NBD_REQUEST_MAGIC), 0), NBD_CMD_FLUSH);
	world_send(&w, header, sizeof(header));
	connection_turn(w.connection, true);
}

/* What was written before it may have come too late for the one that runs. */
static void a_flush_that_comes_amid_one_gets_the_next(void **state)
{
	(void)state;
	begin_with(WIRE_SIMPLE);
	w.volumes[0].flushing = another_flush_comes;
	seem_busy();
	send_raw(NBD_CMD_FLUSH, 0, 0, 0, 0);
	assert_int_equal(w.to_client.length - c.taken, 2 * 16);
	assert_int_equal(w.volumes[0].flushes, 2);
	end();
}

/* Who is there already goes on with the old length. */
static void a_volume_of_another_length_is_another_export(void **state)
{
	struct export *export = NULL;
	(void)state;
	begin_with(WIRE_SIMPLE);
	w.volumes[0].bytes -= 4096;
	assert_int_equal(exports_open(w.host.exports, "db", &export, NULL), 0);
	assert_int_equal(export->info.bytes, VOLUME_BYTES - 4096);
	export_close(export);
	world_settle(&w);
	w.volumes[0].bytes += 4096;
	end();
}

/* Replies that nobody takes: it stops receiving long before memory is used up, and goes on when they are taken. */
static void a_client_that_does_not_read_is_not_read_from(void **state)
{
	(void)state;
	begin_with(WIRE_STRUCTURED);
	w.nature.stalls = 100;
	for (int i = 0; i < 60; i++)
		client_send(&c, NBD_CMD_READ, 0, (uint64_t)i * 300000, 200000, 0);
	for (int i = 0; i < 100000; i++)
		world_step(&w);
	assert_true(w.held_most <= MEMORY_CONNECTION_MAX + WORKSPACE_OUT_BYTES + MEMORY_RESERVE);
	assert_true(w.to_server.length - w.received || !w.watches_in);
	w.nature.stalls = 0;
	client_check_end(&c);
	end();
}

/* Requests that nobody gets on with: no more than that are under way, the others stay with the client. */
static void a_client_has_so_many_requests_under_way(void **state)
{
	(void)state;
	enum { REQUESTS = 4 * CONNECTION_REQUESTS_MAX };
	uint8_t header[28] = {0};
	begin_with(WIRE_SIMPLE);
	w.nature.waits = 100;
	be16_put(be32_put(header, NBD_REQUEST_MAGIC) + 2, NBD_CMD_TRIM);
	be32_put(header + 24, 4096);
	for (int i = 0; i < REQUESTS; i++)
		world_send(&w, header, sizeof(header));
	for (int i = 0; i < REQUESTS; i++)
		connection_turn(w.connection, true);
	assert_int_equal(w.pending_count, CONNECTION_REQUESTS_MAX);
	world_settle(&w);
	assert_int_equal(w.to_client.length - c.taken, REQUESTS * 16);
	end();
}

static void send_reads(unsigned count, uint32_t length)
{
	uint8_t header[28] = {0};
	be16_put(be32_put(header, NBD_REQUEST_MAGIC) + 2, NBD_CMD_READ);
	be32_put(header + 24, length);
	for (unsigned i = 0; i < count; i++)
		world_send(&w, header, sizeof(header));
	connection_turn(w.connection, true);
}

/* One that is alone is read at once. Of several, a helper may have all that come behind the first. */
static void helpers_are_called_to_large_reads_that_come_together(void **state)
{
	(void)state;
	enum { LENGTH = 128 << 10 };
	begin_with(WIRE_SIMPLE);
	send_reads(1, LENGTH);
	assert_int_equal(w.to_client.length - c.taken, 16 + LENGTH);
	assert_int_equal(w.pending_count, 0);
	send_reads(4, LENGTH);
	assert_int_equal(w.to_client.length - c.taken, 2 * (16 + LENGTH));
	assert_int_equal(w.pending_count, 1);
	world_run_one(&w);
	assert_int_equal(w.pending_count, 0);
	assert_false(transfer_has_unread(w.connection));
	world_settle(&w);
	assert_int_equal(w.to_client.length - c.taken, 5 * (16 + LENGTH));
	end();
}

/* It closes its half with as much behind it as a turn takes, and a turn sees both. */
static void who_sends_no_more_gets_all_answers(void **state)
{
	(void)state;
	enum { REQUESTS = 2 * CONNECTION_TURN_REQUESTS };
	uint8_t header[28] = {0};
	begin_with(WIRE_SIMPLE);
	be32_put(header, NBD_REQUEST_MAGIC);
	for (int i = 0; i < REQUESTS; i++)
		world_send(&w, header, sizeof(header));
	connection_turn(w.connection, true);
	w.is_closed = true;
	connection_turn(w.connection, true);
	world_settle(&w);
	assert_null(w.connection);
	assert_int_equal(w.to_client.length - c.taken, REQUESTS * 16);
	end();
}

/* A turn ends with a long write that has just begun; the next one finds more to receive. */
static void what_a_turn_left_is_taken_before_what_comes(void **state)
{
	(void)state;
	enum { LENGTH = 100000 };
	static uint8_t data[LENGTH];
	uint8_t header[28] = {0};
	begin_with(WIRE_SIMPLE);
	be32_put(header, NBD_REQUEST_MAGIC);
	for (int i = 1; i < CONNECTION_TURN_REQUESTS; i++)
		world_send(&w, header, sizeof(header));
	be16_put(header + 6, NBD_CMD_WRITE);
	be32_put(header + 24, LENGTH);
	world_send(&w, header, sizeof(header));
	for (int i = 0; i < LENGTH; i++)
		data[i] = (uint8_t)(i % 251);
	world_send(&w, data, sizeof(data));
	connection_turn(w.connection, true);
	connection_turn(w.connection, true);
	world_settle(&w);
	assert_int_equal(w.to_client.length - c.taken, CONNECTION_TURN_REQUESTS * 16);
	assert_memory_equal(w.volumes[0].data, data, LENGTH);
	end();
}

static int send_room(int fd)
{
	int bytes = 0;
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &(socklen_t){sizeof(bytes)}), 0);
	return bytes;
}

/* As the system makes it until it was full once, and TCP's for ever. */
static void a_socket_that_was_full_has_more_room(void **state)
{
	(void)state;
	static uint8_t data[64 << 10];
	struct iovec list = {data, sizeof(data)};
	for (int is_tcp = 0; is_tcp < 2; is_tcp++) {
		int ends[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
		struct channel *channel = channel_of_socket(ends[0], is_tcp);
		int before = send_room(ends[0]);
		assert_int_equal(channel->ops->send(channel, &list, 1), sizeof(data));
		assert_int_equal(send_room(ends[0]), before);
		while (channel->ops->send(channel, &list, 1) > 0)
			;
		assert_int_equal(send_room(ends[0]) > before, !is_tcp);
		channel->ops->free(channel);
		close(ends[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_request_ends_the_connection),
		cmocka_unit_test(a_disconnect_is_obeyed_when_all_is_answered),
		cmocka_unit_test(nothing_at_all_is_done),
		cmocka_unit_test(a_compact_write_that_is_too_long_is_taken_and_refused),
		cmocka_unit_test(an_extended_payload_that_is_too_long_ends_the_connection),
		cmocka_unit_test(an_extended_write_needs_the_payload_flag),
		cmocka_unit_test(a_payload_that_a_command_does_not_take_is_consumed),
		cmocka_unit_test(compact_requests_know_no_payload_flag),
		cmocka_unit_test(a_block_status_can_name_its_contexts),
		cmocka_unit_test(lengths_without_end_are_refused),
		cmocka_unit_test(a_read_only_export_refuses_changes),
		cmocka_unit_test(what_cannot_be_read_is_an_error_with_a_sentence),
		cmocka_unit_test(a_long_unsplit_read_takes_little_memory),
		cmocka_unit_test(what_goes_bad_while_it_is_sent_cuts_the_connection),
		cmocka_unit_test(flushes_that_wait_share_one),
		cmocka_unit_test(what_comes_between_starttls_and_tls_ends_the_connection),
		cmocka_unit_test(a_flush_that_fails_is_told),
		cmocka_unit_test(who_is_alone_is_flushed_at_once),
		cmocka_unit_test(who_comes_amid_one_at_once_gets_a_worker),
		cmocka_unit_test(what_cannot_be_written_says_why),
		cmocka_unit_test(what_the_map_does_not_tell_is_not_told),
		cmocka_unit_test(zeros_that_keep_their_space_are_no_hole),
		cmocka_unit_test(a_flush_that_comes_amid_one_gets_the_next),
		cmocka_unit_test(a_volume_of_another_length_is_another_export),
		cmocka_unit_test(a_client_that_does_not_read_is_not_read_from),
		cmocka_unit_test(a_client_has_so_many_requests_under_way),
		cmocka_unit_test(helpers_are_called_to_large_reads_that_come_together),
		cmocka_unit_test(who_sends_no_more_gets_all_answers),
		cmocka_unit_test(what_a_turn_left_is_taken_before_what_comes),
		cmocka_unit_test(a_socket_that_was_full_has_more_room),
	};
	return cmocka_run_group_tests_name("requests", tests, NULL, NULL);
}
