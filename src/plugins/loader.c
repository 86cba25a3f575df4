/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "loader.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "entry-head.h"

#ifndef __has_feature
# define __has_feature(x) 0
#endif
#if defined (__SANITIZE_ADDRESS__) || __has_feature (address_sanitizer)
# define HOST_ADDRESS CELL_BUILD_ADDRESS_SANITIZER
#else
# define HOST_ADDRESS 0
#endif
#if defined (__SANITIZE_THREAD__) || __has_feature (thread_sanitizer)
# define HOST_THREAD CELL_BUILD_THREAD_SANITIZER
#else
# define HOST_THREAD 0
#endif
#define HOST_BUILD (CELL_BUILD_POINTER_64 | HOST_ADDRESS | HOST_THREAD)
#define BUILD_KNOWN (CELL_BUILD_POINTER_64 | CELL_BUILD_ADDRESS_SANITIZER | CELL_BUILD_THREAD_SANITIZER | CELL_BUILD_CXX)

typedef struct
{
  CellModule public;
  _Atomic guint refs;           /* not GLib's, nor its locks: ThreadSanitizer does not see those */
  gboolean is_file;
  char *path;
  char sha256[65];
  CellOptions options;
  Contract *contract;
  CodecPlan **in, **out, **args;
  pthread_mutex_t lock;                  /* of plans */
  GHashTable *plans;            /* CellType → CodecPlan */
} Module;

static _Atomic guint n_loaded, n_used;

/* ---- the entry ------------------------------------------------------------------------------------ */

static gboolean
differs (GError **error, const char *field, guint host, guint plugin)
{
  return cell_set_error (error, CELL_ERROR_REFUSED, "%s.%s: this host has %u, the plugin has %u", CELL_ENTRY_SYMBOL, field, host,
                         plugin);
}

static gboolean
check_build (uint32_t build, GError **error)
{
  static const struct
  {
    uint32_t flag;
    const char *name;
  } flags[] = {
    { CELL_BUILD_POINTER_64, "64-bit pointers" },
    { CELL_BUILD_ADDRESS_SANITIZER, "AddressSanitizer" },
    { CELL_BUILD_THREAD_SANITIZER, "ThreadSanitizer" },
  };

  if ((build & ~BUILD_KNOWN) != 0)
    return cell_set_error (error, CELL_ERROR_REFUSED, "%s.build: this host knows 0x%x, the plugin has 0x%x", CELL_ENTRY_SYMBOL,
                           BUILD_KNOWN, build);
  for (size_t i = 0; i < G_N_ELEMENTS (flags); i++)
    if ((build & flags[i].flag) != (HOST_BUILD & flags[i].flag))
      return cell_set_error (error, CELL_ERROR_REFUSED, "%s.build: this host was built %s %s, the plugin %s", CELL_ENTRY_SYMBOL,
                             HOST_BUILD & flags[i].flag ? "with" : "without", flags[i].name,
                             build & flags[i].flag ? "with" : "without");
  return TRUE;
}

/* Nothing else of the entry may be touched before this. */
gboolean
entry_check_head (const EntryHead *head, GError **error)
{
  if (head->magic != CELL_ABI_MAGIC)
    return cell_set_error (error, CELL_ERROR_REFUSED, "%s.magic: this host has 0x%08x, the plugin has 0x%08x", CELL_ENTRY_SYMBOL,
                           CELL_ABI_MAGIC, head->magic);
  if (head->abi_major != CELL_ABI_MAJOR)
    return differs (error, "abi_major", CELL_ABI_MAJOR, head->abi_major);
  /* Until it is frozen, each version stands alone. */
  if (head->abi_minor != CELL_ABI_MINOR)
    return differs (error, "abi_minor", CELL_ABI_MINOR, head->abi_minor);
  if (head->size < sizeof (CellEntry) || head->size > 4096)
    return differs (error, "size", sizeof (CellEntry), head->size);
  return check_build (head->build, error);
}

/* What the plugin has beyond what this host knows may be there as long as it says nothing. */
static gboolean
check_tail (const char *field, const void *data, gsize size, gsize known, GError **error)
{
  const uint8_t *bytes = data;

  for (gsize i = known; i < size; i++)
    if (bytes[i] != 0)
      return differs (error, field, (guint) known, (guint) size);
  return TRUE;
}

static gboolean
check_entry (const CellEntry *entry, GError **error)
{
  EntryHead head;

  memcpy (&head, entry, sizeof head);
  if (!entry_check_head (&head, error) || !check_tail ("size", entry, entry->size, sizeof *entry, error))
    return FALSE;
  if (entry->type_size != sizeof (CellType))
    return differs (error, "type_size", sizeof (CellType), entry->type_size);
  if (entry->field_size != sizeof (CellField))
    return differs (error, "field_size", sizeof (CellField), entry->field_size);
  if (entry->options == NULL || entry->options_size < offsetof (CellOptions, init))
    return differs (error, "options_size", sizeof (CellOptions), entry->options != NULL ? entry->options_size : 0);
  if (!check_tail ("options_size", entry->options, entry->options_size, sizeof (CellOptions), error))
    return FALSE;
  if (entry->reserved_ != 0)
    return differs (error, "reserved_", 0, entry->reserved_);
  if (entry->self_size > MODULE_MAX_SELF)
    return differs (error, "self_size", MODULE_MAX_SELF, entry->self_size);
  if (entry->host == NULL)
    return cell_set_error (error, CELL_ERROR_REFUSED, "%s.host: there is no place for the host's functions", CELL_ENTRY_SYMBOL);
  if (entry->items == NULL)
    return cell_set_error (error, CELL_ERROR_REFUSED, "%s.items: the plugin declares no method, no property and no signal",
                           CELL_ENTRY_SYMBOL);
  if (entry->items_end < entry->items || entry->items_end - entry->items > CONTRACT_MAX_ITEMS)
    return cell_set_error (error, CELL_ERROR_REFUSED, "%s.items: this host takes 0 to %d, the plugin has %zd", CELL_ENTRY_SYMBOL,
                           CONTRACT_MAX_ITEMS, entry->items_end - entry->items);
  return TRUE;
}

static gboolean
take_options (Module *module, const CellEntry *entry, GError **error)
{
  memcpy (&module->options, entry->options, MIN (entry->options_size, sizeof module->options));
  if (module->options.threading > CELL_LOOP)
    return cell_set_error (error, CELL_ERROR_REFUSED, "options.threading: this host knows 0 to %d, the plugin has %u", CELL_LOOP,
                           module->options.threading);
  if ((module->options.save == NULL) != (module->options.restore == NULL))
    return cell_set_error (error, CELL_ERROR_REFUSED,
                           module->options.save != NULL ? "options.save: it saves a state, and has no restore to read it"
                                                        : "options.restore: it restores a state, and has no save to write it");
  module->public.options = &module->options;
  return TRUE;
}

/* ---- plans ------------------------------------------------------------------------------------------ */

static gboolean
make_plan (CodecPlan **ret_plan, const CellField *rows, guint n_rows, int role, uint32_t size, const char *name, GError **error)
{
  const char *why = "no memory";

  if (n_rows == 0)
    return TRUE;
  *ret_plan = codec_plan_new (rows, n_rows, role, size, &why);
  return *ret_plan != NULL || cell_set_error (error, CELL_ERROR_REFUSED, "%s: %s", name, why);
}

static gboolean
make_plans (Module *module, GError **error)
{
  const Contract *contract = module->contract;

  module->in = g_new0 (CodecPlan *, contract->n_callables + 1);
  module->out = g_new0 (CodecPlan *, contract->n_callables + 1);
  module->args = g_new0 (CodecPlan *, contract->n_signals + 1);
  for (guint i = 0; i < contract->n_callables; i++)
    {
      const ContractCallable *c = &contract->callables[i];

      if (!make_plan (&module->in[i], c->in, c->n_in, CELL_ROLE_IN, c->in_size, c->name, error)
          || !make_plan (&module->out[i], c->out, c->n_out, CELL_ROLE_OUT, c->out_size, c->name, error))
        return FALSE;
    }
  for (guint i = 0; i < contract->n_signals; i++)
    {
      const ContractSignal *s = &contract->signals[i];

      if (!make_plan (&module->args[i], s->args, s->n_args, CELL_ROLE_FIELD, s->size, s->name, error))
        return FALSE;
    }
  module->public.in = module->in;
  module->public.out = module->out;
  module->public.args = module->args;
  return TRUE;
}

const CodecPlan *
cell_module_plan_of (CellModule *public, const CellType *type, GError **error)
{
  Module *module = (Module *) public;
  const char *why = "no memory";
  CodecPlan *plan;

  if (type->kind != CELL_KIND_STRUCT)
    {
      cell_set_error (error, CELL_ERROR_INVALID, "%s is not a struct", type->name);
      return NULL;
    }
  pthread_mutex_lock (&module->lock);
  plan = g_hash_table_lookup (module->plans, type);
  if (plan == NULL)
    plan = codec_plan_new (type->fields, type->n_fields, CELL_ROLE_FIELD, type->size, &why);
  if (plan == NULL)
    cell_set_error (error, CELL_ERROR_INVALID, "struct %s: %s", type->name, why);
  else
    g_hash_table_insert (module->plans, (gpointer) type, plan);
  pthread_mutex_unlock (&module->lock);
  return plan;
}

/* ---- modules ------------------------------------------------------------------------------------------ */

static void
plans_free (CodecPlan **plans, guint n)
{
  for (guint i = 0; plans != NULL && i < n; i++)
    codec_plan_free (plans[i]);
  g_free (plans);
}

CellModule *
cell_module_ref (CellModule *public)
{
  ((Module *) public)->refs++;
  return public;
}

void
cell_module_unref (CellModule *public)
{
  Module *module = (Module *) public;
  GHashTableIter iter;
  gpointer plan;

  if (module == NULL || --module->refs != 0)
    return;
  if (module->is_file)
    n_used--;
  g_hash_table_iter_init (&iter, module->plans);
  while (g_hash_table_iter_next (&iter, NULL, &plan))
    codec_plan_free (plan);
  g_hash_table_unref (module->plans);
  if (module->contract != NULL)
    {
      plans_free (module->in, module->contract->n_callables);
      plans_free (module->out, module->contract->n_callables);
      plans_free (module->args, module->contract->n_signals);
      contract_unref (module->contract);
    }
  pthread_mutex_destroy (&module->lock);
  g_free (module->path);
  g_free (module);
}

/* Takes no descriptor and no handle: what has been loaded stays. */
static CellModule *
module_new (const CellEntry *entry, const char *path, const char *sha256, GError **error)
{
  Module *module = g_new0 (Module, 1);
  g_autoptr (CellModule) public = &module->public;

  module->refs = 1;
  pthread_mutex_init (&module->lock, NULL);
  module->plans = g_hash_table_new (NULL, NULL);
  module->path = g_strdup (path);
  g_strlcpy (module->sha256, sha256, sizeof module->sha256);
  module->public = (CellModule) { .path = module->path, .sha256 = module->sha256, .entry = entry };
  if (!check_entry (entry, error) || !take_options (module, entry, error))
    return NULL;
  module->contract = contract_new_from_entry (entry, error);
  if (module->contract == NULL || !make_plans (module, error))
    return NULL;
  module->public.contract = module->contract;
  return g_steal_pointer (&public);
}

CellModule *
cell_module_new_from_entry (const CellEntry *entry, const char *name, GError **error)
{
  CellModule *module = module_new (entry, name, "", error);

  if (module == NULL)
    g_prefix_error (error, "%s: ", name);
  return module;
}

guint
cell_modules_count (guint *ret_retired)
{
  guint used = n_used, loaded = n_loaded;

  if (ret_retired != NULL)
    *ret_retired = loaded - MIN (used, loaded);
  return loaded;
}

/* ---- files ---------------------------------------------------------------------------------------------- */

/* A path of the private copy that no other library of this process has ever had, for the dynamic linker takes equal names for equal
 * libraries, and numbers of descriptors come again: a number, written in '/' and './'. */
static char *
unique_path (const ModuleFile *file)
{
  static _Atomic guint n_paths;
  GString *path = g_string_new ("/proc/self/fd/");

  for (guint n = n_paths++; n != 0; n >>= 1)
    g_string_append (path, n & 1 ? ".//" : "./");
  g_string_append_printf (path, "%d", file->fd);
  return g_string_free (path, FALSE);
}

/* What the dynamic linker says begins with the file that it is about: the cell by its path here, which says nothing to anybody, a
 * library that is nowhere by its bare name, and any other library by its own path. */
static void
refuse_to_link (const char *path, const char *said, GError **error)
{
  const char *rest = strstr (said, ": ");

  if (rest != NULL && memchr (said, '/', (gsize) (rest - said)) == NULL)
    cell_set_error (error, CELL_ERROR_REFUSED, "it needs the library %.*s, which is not on this machine (%s)", (int) (rest - said),
                    said, rest + 2);
  else if (rest != NULL && g_str_has_prefix (said, path))
    cell_set_error (error, CELL_ERROR_REFUSED, "the dynamic linker says: %s", rest + 2);
  else
    cell_set_error (error, CELL_ERROR_REFUSED, "the dynamic linker says: %s", said);
}

/* Where each library lies, and the file that it came from: what its path here says is nothing to anybody. */
static pthread_mutex_t places_lock = PTHREAD_MUTEX_INITIALIZER;
static GHashTable *places;

/* FALSE: it was there before, for the linker knows a file that it has loaded under whatever path. */
static gboolean
remember_place (const CellEntry *entry, const char *name)
{
  gboolean is_new;
  Dl_info info;

  if (dladdr (entry, &info) == 0)
    return TRUE;
  pthread_mutex_lock (&places_lock);
  if (places == NULL)
    places = g_hash_table_new (NULL, NULL);
  is_new = !g_hash_table_contains (places, info.dli_fbase);
  if (is_new)
    g_hash_table_insert (places, info.dli_fbase, g_path_get_basename (name));
  pthread_mutex_unlock (&places_lock);
  return is_new;
}

const char *
cell_module_file_at (const void *code)
{
  const char *name = NULL;
  Dl_info info;

  if (dladdr (code, &info) == 0)
    return NULL;
  pthread_mutex_lock (&places_lock);
  if (places != NULL)
    name = g_hash_table_lookup (places, info.dli_fbase);
  pthread_mutex_unlock (&places_lock);
  return name;
}

static const CellEntry *
link_file (const ModuleFile *file, GError **error)
{
  g_autofree char *path = unique_path (file);
  void *handle = dlopen (path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  const CellEntry *entry = handle != NULL ? dlsym (handle, CELL_ENTRY_SYMBOL) : NULL;
  const char *why = entry == NULL ? dlerror () : NULL;

  if (handle != NULL && (entry == NULL || remember_place (entry, file->name)))
    n_loaded++;
  if (entry == NULL)
    refuse_to_link (path, why != NULL ? why : "nothing", error);
  return entry;
}

CellModule *
cell_module_load_file (const ModuleFile *file, GError **error)
{
  const CellEntry *entry = link_file (file, error);
  CellModule *module = entry != NULL ? module_new (entry, file->name, file->sha256, error) : NULL;

  if (module == NULL)
    {
      g_prefix_error (error, "%s: ", file->name);
      return NULL;
    }
  ((Module *) module)->is_file = TRUE;
  n_used++;
  return module;
}

CellModule *
cell_module_load_fd (int fd, const char *name, GError **error)
{
  g_auto (ModuleFile) file = MODULE_FILE_INIT;

  return module_file_read (&file, fd, name, error) ? cell_module_load_file (&file, error) : NULL;
}

CellModule *
cell_module_load (const char *path, GError **error)
{
  g_auto (ModuleFile) file = MODULE_FILE_INIT;

  return module_file_open (&file, path, error) ? cell_module_load_file (&file, error) : NULL;
}
