/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversations drawn from seeds: requests of every kind, many under way at a time, received in pieces and
 * answered in any order by a volume that now answers at once and now has to wait, to a client that now takes its
 * answers and now does not. Every answer is compared with what it has to be, and memory with its bound.
 *
 * usage: serve-search [--seed N] [--seeds N] [--requests N]
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

static const struct world_nature natures[] = {
	{0, 0, 0}, {20, 20, 0}, {50, 50, 50}, {100, 5, 90}, {5, 95, 5}, {0, 10, 95},
};

/*
 * What one connection may hold beside the memory it is granted: an output that had to be copied, a piece of a long
 * read.
 */
enum { HELD_MOST = MEMORY_CONNECTION_MAX + WORKSPACE_OUT_BYTES + 2 * MEMORY_RESERVE };

static void send_some(struct client *c, unsigned count)
{
	while (count--)
		client_send_any(c);
}

static void converse(uint64_t seed, unsigned requests, uint64_t *done)
{
	struct world w;
	struct client c;
	world_begin(&w, seed, natures[seed % ARRAY_LENGTH(natures)], (4 << 20) + seed % 3 * 1000);
	client_begin(&c, &w);
	client_shake_hands(&c, (enum wire_style)(seed / 7 % 3),
			   seed / 7 % 3 != WIRE_SIMPLE ? seed / 21 % 4 % 3 : 0, seed % 5 == 0);
	if (seed % 11 == 0)
		w.memory.total = 0; /* what others hold: only the reserve is left */
	while (c.cookie < requests) {
		uint64_t dice = world_random(&w, 120);
		unsigned count = dice == 0 ? CLIENT_REQUESTS_MAX : dice < 40; /* many in one piece, now and then */
		if (count)
			send_some(&c, count);
		else
			world_step(&w);
		client_take(&c);
	}
	if (seed % 2)
		client_send_disconnect(&c);
	else
		w.is_closed = true; /* it ends its half, and still wants its answers */
	client_check_end(&c);
	CHECK(!w.connection && w.is_finished && w.held_most <= HELD_MOST);
	*done += c.done;
	client_free(&c);
	world_end(&w);
}

static char again[100];

static void tell_how_again(int number)
{
	(void)number;
	(void)!write(STDERR_FILENO, again, strlen(again));
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'n'},
		{"requests", required_argument, NULL, 'r'}, {0}};
	uint64_t first = 1, seeds = 1, done = 0;
	unsigned requests = 300;
	int option;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		uint64_t value = strtoull(optarg ? optarg : "", NULL, 0);
		if (option == 's')
			first = value;
		else if (option == 'n')
			seeds = value;
		else if (option == 'r')
			requests = (unsigned)value;
		else
			return 2;
	}
	signal(SIGABRT, tell_how_again);
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		snprintf(again, sizeof(again),
			 "serve-search: FAILED; again: serve-search --seed %llu --requests %u\n",
			 (unsigned long long)seed, requests);
		converse(seed, requests, &done);
	}
	printf("%llu conversations, %llu requests answered as they have to be\n", (unsigned long long)seeds,
	       (unsigned long long)done);
	return 0;
}
