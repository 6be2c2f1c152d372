/* SPDX-License-Identifier: Apache-2.0 */
/* A pool's partitions as the server's volumes: the backend whose context is a struct lcpfs_pool. */
#ifndef SERVE_VOLUMES_H
#define SERVE_VOLUMES_H

#include "serve/backend.h"

extern const struct backend volumes_backend;

#endif
