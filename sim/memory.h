/* SPDX-License-Identifier: Apache-2.0 */
/* Memory whose amount users decide, by what they want simulated: it may not be there, which is no defect. */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include <stdio.h>
#include <stdlib.h>

/* What an allocation returned. Ends the program if that is NULL. */
static inline void *sim_memory(void *memory)
{
	if (memory)
		return memory;
	fputs("lcpfs simulate: not enough memory for a model of that size\n", stderr);
	exit(1);
}

/* n of them, at least one. */
static inline void *sim_zeroed(size_t n, size_t size)
{
	return sim_memory(calloc(n ? n : 1, size));
}

static inline void *sim_resized(void *array, size_t n, size_t size)
{
	return sim_memory(reallocarray(array, n, size));
}

#endif
