/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What instance.c and host-api.c share.
 */
#pragma once
#include "instance.h"
#include "loop.h"
#include "self.h"

/* A signal, found by the address that the cell knows it by. */
typedef struct
{
  const CellItem *item;
  const CodecPlan *plan;        /* NULL: no arguments */
  uint16_t number;
  _Atomic gboolean unsent;      /* it could not be encoded, and that was said */
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
  char *unbound;                /* until it is initialized: which cell it could not call, and why; NULL: none */
  char *said;                   /* so long: the last error or warning that it has logged, a few words of it; NULL: none */
  gboolean begun;               /* it is initialized, or will not be: what it logs is no reason of that any more */
  ClientProvider provider;
  pthread_mutex_t lock;                  /* of clients, and of what was said */
  GPtrArray *clients;
};

/* The instance whose code runs on this thread, if that is what self is of; NULL: it is not, and self must not be looked at. */
static inline CellInstance *
instance_here (const void *self)
{
  const Service *service = thread_context ()->frame->service;

  return service != NULL && service->self == self ? service->data : NULL;
}

/* What it has logged: why it does not begin, if it does not.  From any thread. */
void instance_hear (CellInstance *instance, const char *text);
/* A client of the instance's; never NULL. */
CellClient *instance_use (CellInstance *instance, const char *name, const CellRemote *remote);
