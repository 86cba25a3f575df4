/* SPDX-License-Identifier: MIT
 *
 * A cell in C++: the instance is a class, handlers may throw, and the macros are the same.
 */
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <cell/cell.h>

CELL_STRUCT (Item, field (str, name), field (i64, value))
CELL_STRUCT (CounterState, field (array (Item), items))

class Counter
{
public:
  int64_t add (const std::string &name, int64_t by)
  {
    if (name.empty ())
      throw std::invalid_argument ("a counter has a name");     /* the caller gets CELL_ERROR_INVALID and this sentence */
    return values[name] += by;
  }

  std::map<std::string, int64_t> values;
};

CELL_ERROR (Counter, Unknown, "There is no counter of that name")
CELL_SIGNAL (Counter, changed, doc ("A counter has a new value."), field (str, name), field (i64, value))

CELL_METHOD (Counter, add, doc ("Adds to a counter, which is made when there is none, and says what it has now."),
             in (str, name), in (i64, by), out (i64, value))
{
  out->value = self->add (in->name, in->by);
  cell_emit (self, Counter, changed, .name = in->name, .value = out->value);
  return CELL_OK;
}

CELL_METHOD (Counter, get, doc ("What a counter has."), idempotent, in (str, name), out (i64, value), fails (Unknown))
{
  auto found = self->values.find (in->name);
  if (found == self->values.end ())
    return cell_fail (call, Unknown, "there is no counter \"%s\"", in->name);
  out->value = found->second;
  return CELL_OK;
}

CELL_METHOD (Counter, list, doc ("All counters, by name."), idempotent, max_reply (65536), out (array (Item), items))
{
  Item *item = cell_array (call, out, items, self->values.size ());
  if (!item)
    return cell_fail_status (call, CELL_ERROR_TOO_LARGE, "%zu counters do not fit in a reply", self->values.size ());
  for (auto &[name, value] : self->values)
    *item++ = { name.c_str (), value };         /* the map outlives the handler, so its strings need not be copied */
  return CELL_OK;
}

CELL_PROPERTY (Counter, size, u64, "How many counters there are")
{
  return self->values.size ();
}

CELL_SAVE (Counter, counter_save)
{
  std::vector<Item> items;
  for (auto &[name, value] : self->values)
    items.push_back ({ name.c_str (), value });
  CounterState state = { .items = items.data (), .n_items = static_cast<uint32_t> (items.size ()) };
  return cell_save (to, CounterState, &state);
}

CELL_RESTORE (Counter, counter_restore)
{
  const CounterState *state = cell_restore (from, CounterState);
  if (!state)
    return CELL_ERROR_STATE;
  for (uint32_t i = 0; i < state->n_items; i++)
    self->values[state->items[i].name] = state->items[i].value;
  return CELL_OK;
}

CELL_SERVICE (Counter, "org.example.Counter", 1, .doc = "Counters by name", .threading = CELL_SERIAL, .state_version = 1,
              .save = counter_save, .restore = counter_restore)
