/* SPDX-License-Identifier: MIT
 *
 * What the exchange's files share: the instance, and what they all declare to callers.
 */
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include <cell/cell.h>

#include "book.h"

#define MAX_FILLS 64                    /* that one reply lists */

typedef struct
{
  Book book;
  uint64_t placed, cancelled, trades, volume;
  uint32_t last_price;
} Exchange;

CELL_STRUCT (Fill, field (u64, order, "that was waiting"), field (u64, trader, "whose it was"), field (u32, price),
             field (u32, quantity))
CELL_STRUCT (PriceLevel, field (u32, price), field (u64, quantity))

CELL_ERROR (Exchange, InvalidOrder, "The order's side, price or quantity is not acceptable")
CELL_ERROR (Exchange, NoSuchOrder, "No such order waits: it was filled or cancelled, or never was")
CELL_ERROR (Exchange, NotYours, "The order is another trader's")
CELL_ERROR (Exchange, BookFull, "The book can hold no more orders")

CELL_SIGNAL (Exchange, traded, doc ("Two orders met."),
             field (u64, order, "that was waiting"), field (u32, price), field (u32, quantity),
             field (u8, side, "of the order that came"))

#endif
