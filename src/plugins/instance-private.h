/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What instance.c and host-api.c share.
 */
#pragma once
#include "instance.h"
#include "loop.h"

/* A signal, found by the address that the cell knows it by. */
typedef struct
{
  const CellItem *item;
  const CodecPlan *plan;        /* NULL: no arguments */
  uint16_t number;
} InstanceSignal;

struct CellInstance
{
  CellModule *module;
  CellInstanceEnv env;
  char *name;
  GHashTable *config;           /* NULL: nothing was set */
  void *self;
  Service service;
  MethodStats *stats;           /* where the environment has none */
  InstanceSignal *signals;
  guint n_signals;
  Loop *loop;                   /* CELL_LOOP */
  gboolean attached;            /* changed with the endpoint held */
  gboolean constructed, initialized;
  ClientProvider provider;
  pthread_mutex_t lock;                  /* of clients */
  GPtrArray *clients;
};

/* Stands right before each cell's own struct; 16 bytes, so that this is as aligned as memory is. */
typedef struct
{
  CellInstance *instance;
  uint64_t reserved;
} SelfHeader;

G_STATIC_ASSERT (sizeof (SelfHeader) == 16);

static inline CellInstance *
instance_of (void *self)
{
  return ((SelfHeader *) self - 1)->instance;
}

/* A client of the instance's; never NULL. */
CellClient *instance_use (CellInstance *instance, const char *name, const CellRemote *remote);
