/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lcpfs top: a screen that is drawn anew after each look at the pool, and after each key.
 *
 * The terminal is given back as it was, however this ends: signals only set a flag that the loop sees, what aborts
 * or crashes goes through a handler that writes the terminal's own end sequence first.
 */
#include <curses.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "cli.h"
#include "control/field.h"
#include "control/iostat.h"
#include "rates.h"
#include "session.h"
#include "size.h"
#include "table.h"

enum { EVENTS_KEPT = 200, COLUMN = 7, NAME = 10, BAR = 16, LINES_BELOW = 9 };
enum sort { SORT_NAME, SORT_SIZE, SORT_OPS, SORT_LATENCY, SORT_WA, SORT_EPSILON, SORT_END };

static const char *const sort_names[] = {"name",    "size",                "operations",
					 "latency", "write amplification", "epsilon"};

/* A line of the table. */
struct line {
	struct json_object *partition; /* as `list` has it */
	struct rates_row rates;
	double ops, p99_us; /* of all kinds of operations together */
	double p50_us, bytes;
};

struct top {
	struct session_watch session;
	double interval_s;
	struct rates before;
	struct json_object *list, *events, *decision; /* the last answers */
	struct line *lines;
	size_t count, selected;
	enum sort sort;
	bool is_paused, shows_history, has_color, is_ascii, ends;
	struct lcpfs_failure failure;
	bool has_failed;
};

/* ---- the end ---- */

static volatile sig_atomic_t ended_by;

static void on_end(int signal_number)
{
	ended_by = signal_number;
}

/* endwin may not work any more; what a terminal needs at the least is fixed. The signal comes again, for good. */
static void on_crash(int signal_number)
{
	static const char reset[] = "\033[?1049l\033[?25h\033[0m\033[?1l\033>\r\n";
	(void)!write(STDOUT_FILENO, reset, sizeof(reset) - 1);
	(void)!system("stty sane </dev/tty 2>/dev/null");
	raise(signal_number);
}

static void take_signals(void)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
	static const int crashes[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
	struct sigaction end = {.sa_handler = on_end};
	struct sigaction crash = {.sa_handler = on_crash, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};
	for (size_t i = 0; i < ARRAY_LENGTH(ends); i++)
		sigaction(ends[i], &end, NULL);
	for (size_t i = 0; i < ARRAY_LENGTH(crashes); i++)
		sigaction(crashes[i], &crash, NULL);
}

static bool goes_on(void *context, uint64_t done, uint64_t total)
{
	(void)context, (void)done, (void)total;
	return !ended_by;
}

/* ---- looking ---- */

static int ask(struct top *top, const char *command, struct json_object *arguments, struct json_object **result)
{
	json_object_put(*result);
	*result = NULL;
	return session_watch_call(&top->session, command, arguments, result, &top->failure);
}

static struct json_object *limit(unsigned count)
{
	struct json_object *arguments = json_object_new_object();
	field_put_count(arguments, "limit", count);
	return arguments;
}

/* What snapshots hold is looked for in their trees: not every other second. */
static struct json_object *brief(void)
{
	struct json_object *arguments = json_object_new_object();
	field_put_flag(arguments, "brief", true);
	return arguments;
}

/* All kinds of operations together. */
static void fill_line(struct line *line, const struct rates_row *rates)
{
	uint64_t all[LCPFS_LATENCY_BUCKETS] = {0};
	line->rates = *rates;
	line->ops = line->bytes = 0;
	for (unsigned k = 0; k < LCPFS_OPERATIONS; k++) {
		const struct lcpfs_operation_stats *stats = &rates->operation[k];
		line->ops += rates_per_second(rates, (double)stats->ops);
		line->bytes += k == LCPFS_TRIM ? 0 : rates_per_second(rates, (double)stats->bytes);
		for (unsigned i = 0; i < LCPFS_LATENCY_BUCKETS; i++)
			all[i] += stats->latency[i];
	}
	line->p50_us = iostat_percentile(all, 0.5);
	line->p99_us = iostat_percentile(all, 0.99);
}

static const struct rates_row *row_of(const struct rates *rates, uint64_t id)
{
	for (size_t i = 0; i < rates->count; i++)
		if (rates->list[i].id == id)
			return &rates->list[i];
	return NULL;
}

static double sort_value(const struct top *top, const struct line *line)
{
	switch (top->sort) {
	case SORT_SIZE:
		return (double)field_count(line->partition, "size_data_blocks");
	case SORT_OPS:
		return line->ops;
	case SORT_LATENCY:
		return isfinite(line->p99_us) ? line->p99_us : 0;
	case SORT_WA:
		return field_number(line->partition, "write_amplification");
	case SORT_EPSILON:
		return field_number(line->partition, "epsilon");
	default:
		return 0;
	}
}

static const char *name_of(const struct line *line)
{
	const char *name = field_text(line->partition, "name");
	return name ? name : "";
}

static int compare_lines(const void *a, const void *b, void *context)
{
	const struct line *x = a, *y = b;
	double left = sort_value(context, x), right = sort_value(context, y);
	return left > right ? -1 : left < right ? 1 : strcmp(name_of(x), name_of(y));
}

/* What is selected stays selected, wherever it goes. */
static void sort_lines(struct top *top)
{
	uint64_t id = top->selected < top->count ? field_count(top->lines[top->selected].partition, "id") : 0;
	qsort_r(top->lines, top->count, sizeof(*top->lines), compare_lines, top);
	for (size_t i = 0; i < top->count; i++)
		if (field_count(top->lines[i].partition, "id") == id)
			top->selected = i;
	if (top->selected >= top->count)
		top->selected = top->count ? top->count - 1 : 0;
}

static void fill_lines(struct top *top, struct json_object *iostat)
{
	struct json_object *partitions = field_get(top->list, "partitions");
	static const struct rates_row nothing;
	struct rates now;
	rates_read(&now, iostat);
	top->count = field_length(partitions);
	top->lines = realloc(top->lines, (top->count + 1) * sizeof(*top->lines));
	CHECK(top->lines);
	for (size_t i = 0; i < top->count; i++) {
		struct json_object *partition = json_object_array_get_idx(partitions, i);
		const struct rates_row *row = row_of(&now, field_count(partition, "id"));
		struct rates_row rates = row ? rates_since(row, &top->before) : nothing;
		top->lines[i].partition = partition;
		fill_line(&top->lines[i], &rates);
	}
	rates_free(&top->before);
	top->before = now;
	sort_lines(top);
}

static int look(struct top *top)
{
	struct json_object *iostat = NULL;
	int error = ask(top, "list", NULL, &top->list);
	top->count = 0; /* lines pointed into the list */
	if (!error)
		error = ask(top, "log", limit(EVENTS_KEPT), &top->events);
	if (!error)
		error = ask(top, "explain", brief(), &top->decision);
	if (!error)
		error = ask(top, "iostat", NULL, &iostat);
	if (!error)
		fill_lines(top, iostat);
	top->has_failed = error != 0;
	return error;
}

/* ---- drawing ---- */

/* Letters that a terminal without UTF-8 cannot show, as it can. */
static void make_ascii(char *text)
{
	static const char *const words[][2] = {
		{"→", "->"}, {"±", "+-"}, {"ε", "e"}, {"·", "*"}, {"…", "..."}, {"×", "x"}};
	char *to = text;
	for (const char *from = text; *from;) {
		size_t i = 0, length = 1;
		while (i < ARRAY_LENGTH(words) && strncmp(from, words[i][0], strlen(words[i][0])) != 0)
			i++;
		if (i < ARRAY_LENGTH(words)) {
			length = strlen(words[i][0]);
			to = mempcpy(to, words[i][1], MIN_OF(strlen(words[i][1]), length));
		} else if ((unsigned char)*from < 0x80) {
			*to++ = *from;
		} else if (((unsigned char)*from & 0xc0) == 0xc0) {
			*to++ = '?';
		}
		from += length;
	}
	*to = '\0';
}

/* From the cursor on, no further than the line goes. */
static void PRINTF_LIKE(2, 3) put(const struct top *top, const char *format, ...)
{
	int y, x;
	char *text;
	va_list arguments;
	va_start(arguments, format);
	CHECK(vasprintf(&text, format, arguments) >= 0);
	va_end(arguments);
	if (top->is_ascii)
		make_ascii(text);
	getyx(stdscr, y, x);
	/* One column is a character here: there are no wide ones in what the pool says. */
	int room = COLS - x, bytes = 0;
	for (; text[bytes] && (room > 0 || ((unsigned char)text[bytes] & 0xc0) == 0x80); bytes++)
		room -= ((unsigned char)text[bytes + 1] & 0xc0) != 0x80;
	mvaddnstr(y, x, text, bytes);
	free(text);
}

static const char *text_of(struct json_object *object, const char *key)
{
	const char *text = field_text(object, key);
	return text ? text : "";
}

static void draw_head(const struct top *top)
{
	struct json_object *pool = field_get(top->list, "pool"), *engine = field_get(pool, "engine");
	char size[SIZE_TEXT], free_space[SIZE_TEXT], epsilon[NUMBER_TEXT], clock_text[16] = "";
	time_t now = time(NULL);
	struct tm local;
	if (localtime_r(&now, &local))
		strftime(clock_text, sizeof(clock_text), "%H:%M:%S", &local);
	size_print_blocks(size, field_count(pool, "size_blocks"));
	size_print_blocks(free_space, field_count(pool, "free_blocks"));
	attron(A_BOLD);
	move(0, 0);
	put(top, "%s  %s%s", clock_text, top->session.pool_path, top->is_paused ? "  PAUSED" : "");
	attroff(A_BOLD);
	move(1, 0);
	put(top, "%s, %s, %s free; mode %s; ε %s; moves %llu: %llu improved, %llu hurt, %llu undone",
	    text_of(pool, "health"), size, free_space, text_of(engine, "mode"),
	    number_print(epsilon, field_number(engine, "epsilon")),
	    (unsigned long long)field_count(engine, "moves"), (unsigned long long)field_count(engine, "improved"),
	    (unsigned long long)field_count(engine, "hurt"), (unsigned long long)field_count(engine, "undone"));
}

/* All bars have one scale: the largest maximum, or the pool where that is smaller. */
static double bar_scale(const struct top *top)
{
	double most = 1, pool = (double)field_count(field_get(top->list, "pool"), "size_blocks");
	for (size_t i = 0; i < top->count; i++)
		most = fmax(most, (double)field_count(top->lines[i].partition, "max_data_blocks"));
	return pool > 0 ? fmin(most, pool) : most;
}

/* Data #, the rest of its size =, room up to the maximum ., and | where the minimum and the maximum are. */
static void draw_bar(const struct line *line, double scale)
{
	double live = (double)field_count(line->partition, "data_blocks") / scale * BAR;
	double size = (double)field_count(line->partition, "size_data_blocks") / scale * BAR;
	double min = (double)field_count(line->partition, "min_data_blocks") / scale * BAR;
	double max = (double)field_count(line->partition, "max_data_blocks") / scale * BAR;
	char bar[BAR + 1] = "";
	for (int i = 0; i < BAR; i++)
		bar[i] = i + 0.5 < live ? '#' : i + 0.5 < size ? '=' : i + 0.5 < max ? '.' : ' ';
	bar[(int)fmin(fmax(min - 0.5, 0), BAR - 1)] = '|';
	bar[(int)fmin(fmax(max - 0.5, 0), BAR - 1)] = '|';
	addnstr(bar, BAR);
}

static void cell(const char *text)
{
	printw("%*s", COLUMN, text);
}

static void draw_line(const struct line *line, double scale)
{
	char text[NUMBER_TEXT], size[SIZE_TEXT];
	printw("%-*.*s ", NAME, NAME, name_of(line));
	draw_bar(line, scale);
	size_print_blocks(size, field_count(line->partition, "size_data_blocks"));
	cell(size);
	cell(number_print(text, line->ops));
	size_print(size, (uint64_t)line->bytes);
	cell(size);
	cell(number_print_us(text, line->p50_us));
	cell(number_print_us(text, line->p99_us));
	printw("%6s", number_print(text, field_number(line->partition, "write_amplification")));
	cell(number_print(text, field_number(line->partition, "epsilon")));
	double flushes = (double)line->rates.operation[LCPFS_FLUSH].ops;
	printw("%5s", number_print(text, rates_per_second(&line->rates, flushes)));
}

static void draw_table(const struct top *top, int room)
{
	double scale = bar_scale(top);
	size_t shown = (size_t)MAX_OF(room, 1), first = top->selected >= shown ? top->selected - shown + 1 : 0;
	attron(A_REVERSE);
	move(3, 0);
	printw("%-*s %-*s%7s%7s%7s%7s%7s%6s%7s%5s", NAME, "NAME", BAR, "|min #data =max|", "SIZE", "OPS/S",
	       "B/S", "P50", "P99", "WA", "EPS", "FL/S");
	attroff(A_REVERSE);
	for (size_t i = first; i < top->count && i < first + shown; i++) {
		move(4 + (int)(i - first), 0);
		if (i == top->selected)
			attron(A_BOLD | (top->has_color ? COLOR_PAIR(1) : 0));
		draw_line(&top->lines[i], scale);
		attroff(A_BOLD | COLOR_PAIR(1));
	}
}

static bool concerns(struct json_object *event, const char *name)
{
	return !name || !strcmp(text_of(event, "from"), name) || !strcmp(text_of(event, "to"), name);
}

/* The newest last, as many as there are lines for; of one partition, or of all where `name` is NULL. */
static void draw_events(const struct top *top, int y, int room, const char *name)
{
	struct json_object *events = field_get(top->events, "events");
	char when_text[16];
	for (size_t i = field_length(events); i > 0 && room > 0; i--) {
		struct json_object *event = json_object_array_get_idx(events, i - 1);
		time_t when = (time_t)field_count(event, "time_s");
		struct tm local;
		if (!concerns(event, name))
			continue;
		when_text[0] = '\0';
		if (localtime_r(&when, &local))
			strftime(when_text, sizeof(when_text), "%H:%M:%S", &local);
		move(y + --room, 0);
		put(top, "%s %-8s %s", when_text, text_of(event, "kind"), text_of(event, "text"));
	}
}

/* Over two lines: it says what the engine waits for. */
static void draw_sentence(const struct top *top, int y)
{
	const char *text = text_of(field_get(top->decision, "decision"), "sentence");
	size_t first = strlen(text);
	if (first > (size_t)COLS) {
		first = (size_t)COLS;
		while (first > 0 && text[first] != ' ')
			first--;
	}
	move(y, 0);
	put(top, "%.*s", (int)first, text);
	move(y + 1, 0);
	put(top, "%s", text + first + (text[first] == ' '));
}

static void draw_keys(const struct top *top)
{
	move(LINES - 1, 0);
	attron(A_REVERSE);
	if (top->has_failed)
		put(top, "%s", top->failure.message);
	else
		put(top, "q quit  space pause  s sort (%s)  up/down pick  enter history of it",
		    sort_names[top->sort]);
	attroff(A_REVERSE);
}

static void draw(const struct top *top)
{
	const char *name = top->count && top->shows_history ? name_of(&top->lines[top->selected]) : NULL;
	int rows = MIN_OF((int)top->count, MAX_OF(LINES - 4 - LINES_BELOW, 1));
	int below = 4 + rows + 1;
	if (name)
		below = 4 + (rows = MIN_OF(rows, 3)) + 1;
	erase();
	draw_head(top);
	draw_table(top, rows);
	draw_sentence(top, below);
	draw_events(top, below + 3, LINES - 1 - below - 3, name);
	draw_keys(top);
	refresh();
}

/* ---- keys ---- */

static void take_key(struct top *top, int key)
{
	switch (key) {
	case 'q':
		top->ends = true;
		break;
	case ' ':
	case 'p':
		top->is_paused = !top->is_paused;
		break;
	case 's':
		top->sort = (top->sort + 1) % SORT_END;
		sort_lines(top);
		break;
	case KEY_DOWN:
	case 'j':
		top->selected += top->selected + 1 < top->count;
		break;
	case KEY_UP:
	case 'k':
		top->selected -= top->selected > 0;
		break;
	case KEY_ENTER:
	case '\n':
	case '\r':
	case 'h':
		top->shows_history = !top->shows_history;
		break;
	case 'L' & 0x1f:
		clearok(stdscr, true); /* somebody else has written there */
		break;
	default: /* KEY_RESIZE, too: it is drawn anew */
		break;
	}
}

/* Takes keys until it is time for the next look. */
static void wait_for_keys(struct top *top)
{
	struct timespec begin, now;
	double left_s = top->interval_s;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (left_s > 0 && !top->ends && !ended_by) {
		timeout((int)(left_s * 1000) + 1);
		int key = getch();
		if (key != ERR) {
			take_key(top, key);
			draw(top);
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		left_s = top->interval_s - (double)(now.tv_sec - begin.tv_sec) -
			 (double)(now.tv_nsec - begin.tv_nsec) / 1e9;
	}
}

/* ---- beginning ---- */

static void set_up(struct top *top)
{
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, true);
	curs_set(0);
	set_escdelay(50);
	top->has_color = !getenv("NO_COLOR") && has_colors() && start_color() == OK && use_default_colors() == OK;
	if (top->has_color)
		init_pair(1, COLOR_CYAN, -1);
}

/* A server that ends is waited for, as in iostat; what else goes wrong ends it. */
static void run(struct top *top)
{
	while (!top->ends && !ended_by) {
		bool failed = !top->is_paused && look(top);
		if (failed && (top->session.is_connected || top->failure.code == LCPFS_E_BUSY))
			break;
		draw(top);
		wait_for_keys(top);
	}
}

static int with_screen(struct top *top)
{
	const char *term = getenv("TERM");
	SCREEN *screen;

	if (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))
		return cli_failed("top needs a terminal; lcpfs iostat %s 1 is for pipes", top->session.pool_path);
	if (look(top))
		return cli_failure(&top->failure);
	take_signals();
	screen = newterm(NULL, stdout, stdin);
	if (!screen)
		return cli_failed("this terminal (%s) is not known; lcpfs iostat %s 1 does without",
				  term ? term : "TERM is not set", top->session.pool_path);
	set_up(top);
	run(top);
	endwin();
	delscreen(screen);
	return top->has_failed && !top->ends && !ended_by ? cli_failure(&top->failure) : CLI_DONE;
}

int top_command(const struct cli *cli)
{
	struct top top = {.interval_s = 1};
	const char *interval = cli->operands[1], *charset;
	char *end;
	top.session.pool_path = cli->operands[0];
	top.session.progress = goes_on;
	if (interval)
		top.interval_s = strtod(interval, &end);
	if (interval && (*end || !(top.interval_s >= 0.1 && top.interval_s <= 3600)))
		return cli_usage("top: INTERVAL %s is not a number of seconds from 0.1 to 3600", interval);
	setlocale(LC_CTYPE, "");
	charset = nl_langinfo(CODESET);
	top.is_ascii = strcmp(charset, "UTF-8") != 0;
	int status = with_screen(&top);
	session_watch_close(&top.session);
	rates_free(&top.before);
	json_object_put(top.list);
	json_object_put(top.events);
	json_object_put(top.decision);
	free(top.lines);
	return status;
}
