/* SPDX-License-Identifier: Apache-2.0 */
/* The real world of a claim: this process, this boot of this machine, a clock that sleeping does not stop. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pool/claim.h"

static uint64_t boot_us(void *context)
{
	struct timespec now;
	(void)context;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void sleep_for(void *context, uint64_t us)
{
	struct timespec left = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
	(void)context;
	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

static void fill_random(void *context, uint8_t bytes[16])
{
	(void)context;
	if (getrandom(bytes, 16, 0) == 16)
		return;
	uint64_t word = boot_us(NULL) ^ (uint64_t)getpid()
						<< 40; /* the only source of it failing: as good as can be */
	memcpy(bytes, &word, sizeof(word));
}

/* Of /proc/PID/stat: what follows the name, which may hold anything. */
struct process {
	char state;
	long threads;
	uint64_t start;
};

static bool read_process(const char *pid, struct process *process)
{
	char path[64], line[1024];
	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	FILE *file = fopen(path, "re");
	size_t length = file ? fread(line, 1, sizeof(line) - 1, file) : 0;
	if (file)
		fclose(file);
	line[length] = '\0';
	const char *end = strrchr(line, ')');
	return end &&
	       sscanf(end + 1,
		      " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %" SCNu64,
		      &process->state, &process->threads, &process->start) == 3;
}

static enum claim_life life_of(void *context, uint64_t pid, uint64_t start)
{
	struct process process;
	char text[32];
	(void)context;
	if (pid == 0 || pid > INT32_MAX || (kill((pid_t)pid, 0) && errno == ESRCH))
		return CLAIM_GONE;
	snprintf(text, sizeof(text), "%" PRIu64, pid);
	if (!read_process(text, &process))
		return CLAIM_UNKNOWN;
	if (process.start != start || (strchr("ZX", process.state) && process.threads <= 1))
		return CLAIM_GONE; /* its number was given to another; or it only waits to be counted out */
	return strchr("TtD", process.state) ? CLAIM_STOPPED : CLAIM_ALIVE;
}

/* Without one it is nobody else's boot: then only time can tell. */
static void find_boot(uint8_t boot[16])
{
	char text[64] = "";
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	bool read = file && fgets(text, sizeof(text), file);
	unsigned count = 0;
	if (file)
		fclose(file);
	for (const char *c = text; read && count < 16 && c[0] && c[1];) {
		unsigned byte;
		if (*c == '-')
			c++;
		else if (sscanf(c, "%2x", &byte) == 1)
			boot[count++] = (uint8_t)byte, c += 2;
		else
			break;
	}
	if (count < 16)
		fill_random(NULL, boot);
}

void claim_world_system(struct claim_world *world)
{
	struct process self = {0};
	struct stat namespace = {0};
	*world = (struct claim_world){
		.process = (uint64_t)getpid(),
		.now_us = boot_us,
		.sleep_us = sleep_for,
		.life_of = life_of,
		.random = fill_random,
	};
	find_boot(world->boot);
	if (read_process("self", &self))
		world->start = self.start;
	if (!stat("/proc/self/ns/pid", &namespace))
		world->pid_namespace = namespace.st_ino;
	if (gethostname(world->host, sizeof(world->host)))
		world->host[0] = '\0';
	world->host[sizeof(world->host) - 1] = '\0';
}
