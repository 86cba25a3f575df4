/* SPDX-License-Identifier: MIT
 *
 * Everything that the author of a cell needs.  The code is the contract: each macro writes down, in constant tables, what it
 * declares, and the host reads the rest (introspection, client headers, JSON, D-Bus) from those tables.
 *
 *   #include <cell/cell.h>
 *
 *   typedef struct { int64_t balance[1024]; } Ledger;              the instance, zeroed by the host
 *
 *   CELL_STRUCT   (Entry, field (u64, id), field (str, memo, "free text"))
 *   CELL_ERROR    (Ledger, InvalidAmount, "The amount is not positive")
 *   CELL_SIGNAL   (Ledger, transferred, field (u64, from), field (i64, amount))
 *   CELL_METHOD   (Ledger, transfer, doc ("Moves money."), in (u64, from), in (i64, amount), out (i64, balance),
 *                  fails (InvalidAmount))
 *   { … in->amount … out->balance = …; return CELL_OK; }
 *   CELL_PROPERTY (Ledger, total, i64, "Sum over all accounts") { return …; }
 *   CELL_SERVICE  (Ledger, "org.example.Ledger", 1, .doc = "A ledger")
 *
 * Types      bool u8 i8 u16 i16 u32 i32 u64 i64 f64 str bytes blob, structs, array (T), optional (T).
 *            An array `x` is a pointer `x` with `n_x` elements; an optional `x` is a value `x` with a bool `has_x`.
 * Limits     31 rows per struct, signal or method; a name that is a macro of the C library (errno, linux, unix) cannot be used.
 * Ownership  What `in` points to lasts until the handler returns, or until a deferred call is answered.  What `out` points to is
 *            read when the handler returns: it lies in the call (cell_print, cell_array, cell_alloc), in the instance, or is
 *            constant.
 * Threads    A handler, init, fini, save, restore, completions and signal handlers run where the threading option says.  Each
 *            wrapper below is for those places, except cell_log_… () and the blob's accessors, which may be called anywhere.
 * Compilers  gcc ≥ 8, clang ≥ 9, tcc; gnu11, or C++20.  Nothing but libc is linked, and only `cell_entry` is exported.
 */
#ifndef CELL_H
#define CELL_H

#if defined (__GNUC__) && !defined (__TINYC__)
# pragma GCC system_header              /* -Wpedantic says nothing about what the macros expand to */
#endif

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cell/abi.h>

#ifdef __cplusplus
# include <exception>
# include <new>
# include <stdexcept>
# include <type_traits>
# define CELL_ASSERT_ static_assert
# define CELL_EXTERN_C_ extern "C"
# define CELL_ZERO_ {}                  /* members that an initialiser leaves out are zero, and g++ does not ask for them */
# define CELL_SIZE_(S) (std::is_empty<S>::value ? 0 : (uint32_t) sizeof (S))
#else
# define CELL_ASSERT_ _Static_assert
# define CELL_EXTERN_C_ extern
# define CELL_ZERO_
# define CELL_SIZE_(S) (uint32_t) sizeof (S)
#endif
#define CELL_UNUSED __attribute__ ((unused))
#define CELL_HIDDEN_ __attribute__ ((visibility ("hidden")))
#define CELL_SHARED_ __attribute__ ((weak, visibility ("hidden")))     /* one of several equal definitions: a header's */

CELL_ASSERT_ (sizeof (void *) == 8, "cell.h: a reference on the wire has the size of a pointer, 8 bytes");

/* ---- types: the word in a row, its C type, its description ------------------------------------- */

#define CELL_SCALAR_(word, c, kind) \
  typedef c cell_type_##word; \
  CELL_UNUSED static const CellType cell_desc_##word = { #word, kind, (uint8_t) sizeof (c), 0, (uint32_t) sizeof (c), NULL };
CELL_SCALAR_ (u8, uint8_t, CELL_KIND_UINT)
CELL_SCALAR_ (u16, uint16_t, CELL_KIND_UINT)
CELL_SCALAR_ (u32, uint32_t, CELL_KIND_UINT)
CELL_SCALAR_ (u64, uint64_t, CELL_KIND_UINT)
CELL_SCALAR_ (i8, int8_t, CELL_KIND_INT)
CELL_SCALAR_ (i16, int16_t, CELL_KIND_INT)
CELL_SCALAR_ (i32, int32_t, CELL_KIND_INT)
CELL_SCALAR_ (i64, int64_t, CELL_KIND_INT)
CELL_SCALAR_ (f64, double, CELL_KIND_FLOAT)

typedef const char *cell_type_str;      /* UTF-8, ends with NUL; what arrives is never NULL */
typedef CellBytes cell_type_bytes;      /* .data and .size, 8-byte aligned only by accident */
typedef CellBlob *cell_type_blob;       /* NULL when there is none */
CELL_UNUSED static const CellType cell_desc_str = { "str", CELL_KIND_STR, 8, 0, 8, NULL };
CELL_UNUSED static const CellType cell_desc_bytes = { "bytes", CELL_KIND_BYTES, 8, 0, 16, NULL };
CELL_UNUSED static const CellType cell_desc_blob = { "blob", CELL_KIND_BLOB, 8, 0, 8, NULL };

#undef bool
CELL_UNUSED static const CellType cell_desc_bool = { "bool", CELL_KIND_BOOL, 1, 0, 1, NULL };
#ifdef __cplusplus
typedef bool cell_type_bool;
#else
typedef _Bool cell_type_bool;
# if !defined (__STDC_VERSION__) || __STDC_VERSION__ < 202311L
typedef _Bool cell_type__Bool;          /* bool is a macro before C23: a row may arrive in either spelling */
CELL_UNUSED static const CellType cell_desc__Bool = { "bool", CELL_KIND_BOOL, 1, 0, 1, NULL };
#  define bool _Bool
# endif
#endif

/* ---- a loop over macro arguments: linear, without __VA_OPT__ ----------------------------------- */

#define CELL_PASTE_2_(a, b) a##b
#define CELL_PASTE_(a, b) CELL_PASTE_2_ (a, b)
#define CELL_ARG_40_(a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20, \
                     a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31, a32, a33, a34, a35, a36, a37, a38, a39, a40, ...) a40
#define CELL_COUNT_2_(...) CELL_ARG_40_ (__VA_ARGS__)
#define CELL_COUNT_(...) CELL_COUNT_2_ (__VA_ARGS__, MANY, MANY, MANY, MANY, MANY, MANY, MANY, \
                                        31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, \
                                        9, 8, 7, 6, 5, 4, 3, 2, 1, 0, ~)
#define CELL_EACH_MANY(m, c, ...) at_most_31_rows_are_allowed_here
#define CELL_EACH_0(m, c, end)
#define CELL_EACH_1(m, c, a, end) m (c, a)
#define CELL_EACH_2(m, c, a, ...) m (c, a) CELL_EACH_1 (m, c, __VA_ARGS__)
#define CELL_EACH_3(m, c, a, ...) m (c, a) CELL_EACH_2 (m, c, __VA_ARGS__)
#define CELL_EACH_4(m, c, a, ...) m (c, a) CELL_EACH_3 (m, c, __VA_ARGS__)
#define CELL_EACH_5(m, c, a, ...) m (c, a) CELL_EACH_4 (m, c, __VA_ARGS__)
#define CELL_EACH_6(m, c, a, ...) m (c, a) CELL_EACH_5 (m, c, __VA_ARGS__)
#define CELL_EACH_7(m, c, a, ...) m (c, a) CELL_EACH_6 (m, c, __VA_ARGS__)
#define CELL_EACH_8(m, c, a, ...) m (c, a) CELL_EACH_7 (m, c, __VA_ARGS__)
#define CELL_EACH_9(m, c, a, ...) m (c, a) CELL_EACH_8 (m, c, __VA_ARGS__)
#define CELL_EACH_10(m, c, a, ...) m (c, a) CELL_EACH_9 (m, c, __VA_ARGS__)
#define CELL_EACH_11(m, c, a, ...) m (c, a) CELL_EACH_10 (m, c, __VA_ARGS__)
#define CELL_EACH_12(m, c, a, ...) m (c, a) CELL_EACH_11 (m, c, __VA_ARGS__)
#define CELL_EACH_13(m, c, a, ...) m (c, a) CELL_EACH_12 (m, c, __VA_ARGS__)
#define CELL_EACH_14(m, c, a, ...) m (c, a) CELL_EACH_13 (m, c, __VA_ARGS__)
#define CELL_EACH_15(m, c, a, ...) m (c, a) CELL_EACH_14 (m, c, __VA_ARGS__)
#define CELL_EACH_16(m, c, a, ...) m (c, a) CELL_EACH_15 (m, c, __VA_ARGS__)
#define CELL_EACH_17(m, c, a, ...) m (c, a) CELL_EACH_16 (m, c, __VA_ARGS__)
#define CELL_EACH_18(m, c, a, ...) m (c, a) CELL_EACH_17 (m, c, __VA_ARGS__)
#define CELL_EACH_19(m, c, a, ...) m (c, a) CELL_EACH_18 (m, c, __VA_ARGS__)
#define CELL_EACH_20(m, c, a, ...) m (c, a) CELL_EACH_19 (m, c, __VA_ARGS__)
#define CELL_EACH_21(m, c, a, ...) m (c, a) CELL_EACH_20 (m, c, __VA_ARGS__)
#define CELL_EACH_22(m, c, a, ...) m (c, a) CELL_EACH_21 (m, c, __VA_ARGS__)
#define CELL_EACH_23(m, c, a, ...) m (c, a) CELL_EACH_22 (m, c, __VA_ARGS__)
#define CELL_EACH_24(m, c, a, ...) m (c, a) CELL_EACH_23 (m, c, __VA_ARGS__)
#define CELL_EACH_25(m, c, a, ...) m (c, a) CELL_EACH_24 (m, c, __VA_ARGS__)
#define CELL_EACH_26(m, c, a, ...) m (c, a) CELL_EACH_25 (m, c, __VA_ARGS__)
#define CELL_EACH_27(m, c, a, ...) m (c, a) CELL_EACH_26 (m, c, __VA_ARGS__)
#define CELL_EACH_28(m, c, a, ...) m (c, a) CELL_EACH_27 (m, c, __VA_ARGS__)
#define CELL_EACH_29(m, c, a, ...) m (c, a) CELL_EACH_28 (m, c, __VA_ARGS__)
#define CELL_EACH_30(m, c, a, ...) m (c, a) CELL_EACH_29 (m, c, __VA_ARGS__)
#define CELL_EACH_31(m, c, a, ...) m (c, a) CELL_EACH_30 (m, c, __VA_ARGS__)
/* m (c, row) for each row; the list ends with `end`, so that no variadic part is ever empty */
#define CELL_EACH_(m, c, ...) CELL_PASTE_ (CELL_EACH_, CELL_COUNT_ (__VA_ARGS__)) (m, c, __VA_ARGS__)

/* ---- rows: word (…) becomes ROLE, … ------------------------------------------------------------ */

#define cell_row_field(...)     FIELD, CELL_TYPE_NAME_DOC_ (__VA_ARGS__, "", ~)
#define cell_row_in(...)        IN, CELL_TYPE_NAME_DOC_ (__VA_ARGS__, "", ~)
#define cell_row_out(...)       OUT, CELL_TYPE_NAME_DOC_ (__VA_ARGS__, "", ~)
#define cell_row_doc(text)      DOC, text
#define cell_row_fails(error)   FAILS, error
#define cell_row_idempotent     ATTRIBUTE, "idempotent", CELL_ATTRIBUTE_IDEMPOTENT, 1
#define cell_row_oneway         ATTRIBUTE, "oneway", CELL_ATTRIBUTE_ONEWAY, 1
#define cell_row_job            ATTRIBUTE, "job", CELL_ATTRIBUTE_JOB, 1
#define cell_row_access(who)    ATTRIBUTE, "access", CELL_ATTRIBUTE_ACCESS, cell_access_##who
#define cell_row_timeout(ms)    ATTRIBUTE, "timeout", CELL_ATTRIBUTE_TIMEOUT, ms
#define cell_row_max_reply(n)   ATTRIBUTE, "max_reply", CELL_ATTRIBUTE_MAX_REPLY, n
#define cell_access_any CELL_ACCESS_ANY
#define cell_access_view CELL_ACCESS_VIEW
#define cell_access_operate CELL_ACCESS_OPERATE
#define cell_access_admin CELL_ACCESS_ADMIN
#define CELL_TYPE_NAME_DOC_(t, n, d, ...) t, n, d

#define cell_shape_array(...) , ARRAY, __VA_ARGS__
#define cell_shape_optional(...) , OPTIONAL, __VA_ARGS__
#define cell_type_array(...) an_array_or_optional_stands_alone_in_a_row_wrap_it_in_a_struct
#define cell_type_optional(...) an_array_or_optional_stands_alone_in_a_row_wrap_it_in_a_struct
#define cell_desc_array(...) an_array_or_optional_stands_alone_in_a_row_wrap_it_in_a_struct
#define cell_desc_optional(...) an_array_or_optional_stands_alone_in_a_row_wrap_it_in_a_struct

/* a row as the members of a C struct; zero: what stands after each member */
#define CELL_MEMBER_(zero, t, n) CELL_MEMBER_1_ (zero, n, cell_shape_##t, PLAIN, t, ~)
#define CELL_MEMBER_1_(...) CELL_MEMBER_2_ (__VA_ARGS__)
#define CELL_MEMBER_2_(zero, n, x, shape, t, ...) CELL_MEMBER_##shape (zero, t, n)
#define CELL_MEMBER_PLAIN(zero, t, n) cell_type_##t n zero;
#define CELL_MEMBER_ARRAY(zero, t, n) const cell_type_##t *n zero; uint32_t n_##n zero; uint32_t n_##n##_stride_ zero;
#define CELL_MEMBER_OPTIONAL(zero, t, n) cell_type_##t n zero; bool has_##n zero;

/* the members of a method's `in` */
#define CELL_IN_(zero, row) CELL_IN_1_ (zero, cell_row_##row)
#define CELL_IN_1_(...) CELL_IN_2_ (__VA_ARGS__)
#define CELL_IN_2_(zero, role, ...) CELL_IN_##role (zero, __VA_ARGS__)
#define CELL_IN_IN(zero, t, n, d) CELL_MEMBER_ (zero, t, n)
#define CELL_IN_OUT(...)
#define CELL_IN_DOC(...)
#define CELL_IN_FAILS(...)
#define CELL_IN_ATTRIBUTE(...)
/* the members of a method's `out` */
#define CELL_OUT_(zero, row) CELL_OUT_1_ (zero, cell_row_##row)
#define CELL_OUT_1_(...) CELL_OUT_2_ (__VA_ARGS__)
#define CELL_OUT_2_(zero, role, ...) CELL_OUT_##role (zero, __VA_ARGS__)
#define CELL_OUT_OUT(zero, t, n, d) CELL_MEMBER_ (zero, t, n)
#define CELL_OUT_IN(...)
#define CELL_OUT_DOC(...)
#define CELL_OUT_FAILS(...)
#define CELL_OUT_ATTRIBUTE(...)
/* the members of a struct (fields only) or of a signal (fields and doc) */
#define CELL_FIELD_(zero, row) CELL_FIELD_1_ (zero, cell_row_##row)
#define CELL_FIELD_1_(...) CELL_FIELD_2_ (__VA_ARGS__)
#define CELL_FIELD_2_(zero, role, ...) CELL_FIELD_##role (zero, __VA_ARGS__)
#define CELL_FIELD_FIELD(zero, t, n, d) CELL_MEMBER_ (zero, t, n)
#define CELL_FIELD_DOC(...)

/* a row as a CellField; c: the struct's name, to which in and out rows add _in and _out */
#define CELL_ROW_(c, row) CELL_ROW_1_ (c, cell_row_##row)
#define CELL_ROW_1_(...) CELL_ROW_2_ (__VA_ARGS__)
#define CELL_ROW_2_(c, role, ...) CELL_ROW_##role (c, __VA_ARGS__)
#define CELL_ROW_FIELD(c, t, n, d) CELL_ROW_3_ (c, n, d, CELL_ROLE_FIELD, 0, cell_shape_##t, PLAIN, t, ~)
#define CELL_ROW_IN(c, t, n, d) CELL_ROW_3_ (c##_in, n, d, CELL_ROLE_IN, 0, cell_shape_##t, PLAIN, t, ~)
#define CELL_ROW_OUT(c, t, n, d) CELL_ROW_3_ (c##_out, n, d, CELL_ROLE_OUT, 0, cell_shape_##t, PLAIN, t, ~)
#define CELL_ROW_DOC(c, text) { "", text, NULL, NULL, 0, 0, 0, 0, CELL_ROLE_DOC, 0, 0 },
#define CELL_ROW_FAILS(c, e) { #e, "", NULL, &cell_error_##e, 0, 0, 0, 0, CELL_ROLE_FAILS, 0, 0 },
#define CELL_ROW_ATTRIBUTE(c, name, attribute, value) { name, "", NULL, NULL, 0, 0, value, 0, CELL_ROLE_ATTRIBUTE, attribute, 0 },
/* less: what is taken off each offset (a reply's members stand behind its CellResult) */
#define CELL_ROW_3_(...) CELL_ROW_4_ (__VA_ARGS__)
#define CELL_ROW_4_(c, n, d, role, less, x, shape, t, ...) CELL_ROW_##shape (c, n, d, role, less, t)
#define CELL_OFFSET_(c, n, less) (uint32_t) (offsetof (c, n) - (less))
#define CELL_ROW_PLAIN(c, n, d, role, less, t) \
  { #n, d, &cell_desc_##t, NULL, CELL_OFFSET_ (c, n, less), 0, 0, CELL_SHAPE_PLAIN, role, 0, 0 },
#define CELL_ROW_ARRAY(c, n, d, role, less, t) \
  { #n, d, &cell_desc_##t, NULL, CELL_OFFSET_ (c, n, less), CELL_OFFSET_ (c, n_##n, less), 0, CELL_SHAPE_ARRAY, role, 0, 0 },
#define CELL_ROW_OPTIONAL(c, n, d, role, less, t) \
  { #n, d, &cell_desc_##t, NULL, CELL_OFFSET_ (c, n, less), CELL_OFFSET_ (c, has_##n, less), 0, CELL_SHAPE_OPTIONAL, role, 0, 0 },

#define CELL_ROW_END_ { NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0 }
#define CELL_N_ROWS_(rows) (uint16_t) (sizeof (rows) / sizeof (CellField) - 1)
/* An item's address goes to a section that the linker puts together: that is the list of items. */
#define CELL_PUBLISH_(item) static const CellItem *const item##_ref_ __attribute__ ((used, section ("cell_items"))) = &item;

/* ---- what an author declares ------------------------------------------------------------------- */

/* CELL_STRUCT (Entry, field (u64, id), field (array (str), tags), field (str, memo, "documentation")…)
 * A C struct `Entry` that may be used in rows, and by value in other structs. */
#define CELL_STRUCT(...) CELL_STRUCT_ (__VA_ARGS__, end)        /* without fields: the arguments of a signal that has none */
#define CELL_STRUCT_(S, ...) \
  __extension__ typedef struct S { CELL_EACH_ (CELL_FIELD_, CELL_ZERO_, __VA_ARGS__) } S, cell_type_##S; \
  CELL_UNUSED static const CellField cell_fields_##S[] = { CELL_EACH_ (CELL_ROW_, S, __VA_ARGS__) CELL_ROW_END_ }; \
  CELL_UNUSED static const CellType cell_desc_##S = \
    { #S, CELL_KIND_STRUCT, (uint8_t) __alignof__ (S), CELL_N_ROWS_ (cell_fields_##S), CELL_SIZE_ (S), cell_fields_##S };

/* CELL_ERROR (Ledger, InvalidAmount, "documentation")
 * An error that methods declare with fails (InvalidAmount) and raise with cell_fail ().  Callers see the name
 * "org.example.Ledger.InvalidAmount".  May stand in a header that several files of the cell include. */
#define CELL_ERROR(T, ...) CELL_ERROR_ (T, __VA_ARGS__, "", ~)
#define CELL_ERROR_(T, e, d, ...) \
  CELL_EXTERN_C_ CELL_SHARED_ const CellItem cell_error_##e; \
  const CellItem cell_error_##e = { \
    (uint32_t) sizeof (CellItem), CELL_ITEM_ERROR, 0, 0, 0, 0, #T, #e, d, NULL, NULL, NULL, NULL }; \
  CELL_PUBLISH_ (cell_error_##e)

/* CELL_SIGNAL (Ledger, transferred, doc ("…"), field (u64, from)…)
 * A signal, sent with cell_emit ().  May stand in a header that several files of the cell include. */
#define CELL_SIGNAL(T, ...) CELL_SIGNAL_ (T, __VA_ARGS__, end)
#define CELL_SIGNAL_(T, s, ...) \
  __extension__ typedef struct T##_##s { CELL_EACH_ (CELL_FIELD_, CELL_ZERO_, __VA_ARGS__) } T##_##s; \
  static const CellField T##_##s##_rows[] = { CELL_EACH_ (CELL_ROW_, T##_##s, __VA_ARGS__) CELL_ROW_END_ }; \
  CELL_EXTERN_C_ CELL_SHARED_ const CellItem T##_##s##_signal; \
  const CellItem T##_##s##_signal = { (uint32_t) sizeof (CellItem), CELL_ITEM_SIGNAL, 0, CELL_N_ROWS_ (T##_##s##_rows), \
    CELL_SIZE_ (T##_##s), 0, #T, #s, "", T##_##s##_rows, NULL, NULL, NULL }; \
  CELL_PUBLISH_ (T##_##s##_signal)

/* CELL_METHOD (Ledger, transfer, rows…) { …; return CELL_OK; }
 * A method and its handler, which gets self (the instance), call, in (the arguments) and out (the outputs, zeroed), and returns
 * CELL_OK, what cell_fail () returned, or CELL_DEFERRED after cell_defer ().  Rows, in any order:
 *   doc ("…")   in (type, name, "doc")   out (type, name, "doc")   fails (Error)
 *   idempotent                 may be executed again when it is not known whether it was
 *   oneway                     nobody waits for an answer
 *   job                        long work: whoever serves it leaves others to another thread first; of other methods it is learnt
 *   access (view|operate|admin)  who may call; anybody unless said
 *   timeout (ms)               the caller's deadline unless it sets one; 5,000 unless said
 *   max_reply (bytes)          the largest reply; 4,096 unless said.  Larger data travels as a blob
 * In C++ an exception ends the call: std::invalid_argument and std::out_of_range as CELL_ERROR_INVALID, std::bad_alloc as
 * CELL_ERROR_NO_RESOURCES, any other as CELL_ERROR_FAILED, each with its what (). */
#define CELL_METHOD(T, ...) CELL_METHOD_ (T, __VA_ARGS__, end)
#define CELL_METHOD_(T, m, ...) \
  __extension__ typedef struct T##_##m##_in { CELL_EACH_ (CELL_IN_, CELL_ZERO_, __VA_ARGS__) } T##_##m##_in; \
  __extension__ typedef struct T##_##m##_out { CELL_EACH_ (CELL_OUT_, CELL_ZERO_, __VA_ARGS__) } T##_##m##_out; \
  static const CellField T##_##m##_rows[] = { CELL_EACH_ (CELL_ROW_, T##_##m, __VA_ARGS__) CELL_ROW_END_ }; \
  static CellStatus T##_##m (T *self, CellCall *call, const T##_##m##_in *in, T##_##m##_out *out); \
  static CellStatus T##_##m##_invoke (void *self, CellCall *call, const void *in, void *out) \
    CELL_GUARD_ (call, return T##_##m ((T *) self, call, (const T##_##m##_in *) in, (T##_##m##_out *) out);) \
  static const CellItem T##_##m##_method = { (uint32_t) sizeof (CellItem), CELL_ITEM_METHOD, 0, CELL_N_ROWS_ (T##_##m##_rows), \
    CELL_SIZE_ (T##_##m##_in), CELL_SIZE_ (T##_##m##_out), #T, #m, "", T##_##m##_rows, NULL, T##_##m##_invoke, NULL }; \
  CELL_PUBLISH_ (T##_##m##_method) \
  static CellStatus T##_##m (CELL_UNUSED T *self, CELL_UNUSED CellCall *call, \
                             CELL_UNUSED const T##_##m##_in *in, CELL_UNUSED T##_##m##_out *out)

/* CELL_PROPERTY (Ledger, total, i64, "documentation") { return …; }
 * A property that callers may read; the body gets self and call and returns the value.  The type is a plain one or a struct. */
#define CELL_PROPERTY(T, p, ...) CELL_PROPERTY_ (T, p, NULL, 0, __VA_ARGS__, "", ~)

/* CELL_WRITABLE (Ledger, limit, u32, "documentation") { return self->limit; }
 * CELL_SETTER   (Ledger, limit) { self->limit = value; return CELL_OK; }
 * A property that callers may also write; the setter gets self, call and value, and returns as a handler does. */
#define CELL_WRITABLE(T, p, ...) \
  static CellStatus T##_##p##_write (void *self, CellCall *call, const void *in, void *out); \
  CELL_PROPERTY_ (T, p, T##_##p##_write, sizeof (T##_##p##_value), __VA_ARGS__, "", ~)
#define CELL_SETTER(T, p) \
  static CellStatus T##_set_##p (T *self, CellCall *call, T##_##p##_value value); \
  static CellStatus T##_##p##_write (void *self, CellCall *call, const void *in, CELL_UNUSED void *out) \
    CELL_GUARD_ (call, return T##_set_##p ((T *) self, call, *(const T##_##p##_value *) in);) \
  static CellStatus T##_set_##p (CELL_UNUSED T *self, CELL_UNUSED CellCall *call, T##_##p##_value value)
#define CELL_PROPERTY_(T, p, write, in_size, t, d, ...) \
  typedef cell_type_##t T##_##p##_value; \
  static T##_##p##_value T##_get_##p (T *self, CellCall *call); \
  static CellStatus T##_##p##_read (void *self, CellCall *call, CELL_UNUSED const void *in, void *out) \
    CELL_GUARD_ (call, *(T##_##p##_value *) out = T##_get_##p ((T *) self, call); return CELL_OK;) \
  static const CellItem T##_##p##_property = { (uint32_t) sizeof (CellItem), CELL_ITEM_PROPERTY, 0, 0, in_size, \
    (uint32_t) sizeof (T##_##p##_value), #T, #p, d, NULL, &cell_desc_##t, T##_##p##_read, write }; \
  CELL_PUBLISH_ (T##_##p##_property) \
  static T##_##p##_value T##_get_##p (CELL_UNUSED T *self, CELL_UNUSED CellCall *call)

/* Functions for the service's options, with a typed self; in C++ exceptions become a status.  All return as a handler does.
 *   CELL_INIT    (Ledger, ledger_init) { … }       gets self; before the first call
 *   CELL_FINI    (Ledger, ledger_fini) { … }       gets self, returns nothing (an exception is logged); after the last call
 *   CELL_SAVE    (Ledger, ledger_save) { … }       gets self and to: cell_save ()
 *   CELL_RESTORE (Ledger, ledger_restore) { … }    gets self, version (what the saving build had as state_version) and from */
#define CELL_INIT(T, name) \
  static CellStatus name##_typed (T *self); \
  static CellStatus name (void *self) CELL_GUARD_SELF_ (return name##_typed ((T *) self);) \
  static CellStatus name##_typed (CELL_UNUSED T *self)
#define CELL_FINI(T, name) \
  static void name##_typed (T *self); \
  static void name (void *self) CELL_GUARD_VOID_ (name##_typed ((T *) self);) \
  static void name##_typed (CELL_UNUSED T *self)
#define CELL_SAVE(T, name) \
  static CellStatus name##_typed (T *self, CellState *to); \
  static CellStatus name (void *self, CellState *to) CELL_GUARD_SELF_ (return name##_typed ((T *) self, to);) \
  static CellStatus name##_typed (CELL_UNUSED T *self, CELL_UNUSED CellState *to)
#define CELL_RESTORE(T, name) \
  static CellStatus name##_typed (T *self, uint32_t version, CellState *from); \
  static CellStatus name (void *self, uint32_t version, CellState *from) \
    CELL_GUARD_SELF_ (return name##_typed ((T *) self, version, from);) \
  static CellStatus name##_typed (CELL_UNUSED T *self, CELL_UNUSED uint32_t version, CELL_UNUSED CellState *from)

/* CELL_SERVICE (Ledger, "org.example.Ledger", 1, options…)
 * Once per cell, after its items: the instance's type, the interface and its version, and in this order, each of them optional:
 *   .doc = "…"   .threading = CELL_SERIAL, CELL_CONCURRENT or CELL_LOOP   .state_version = n   .init   .fini   .save   .restore
 * A cell without save begins anew wherever it moves to, zeroed and with init; one that has a state_version all the same is not
 * moved.  One of save and restore without the other is refused when the cell is loaded. */
#define CELL_SERVICE(T, interface, ...) CELL_SERVICE_ (T, interface, __VA_ARGS__, .end_ = 0)
#define CELL_SERVICE_(T, interface, version, ...) \
  CELL_ASSERT_ (__alignof__ (T) <= 16, "cell.h: the instance needs more than 16-byte alignment"); \
  static const CellOptions cell_options_##T = { __VA_ARGS__ }; \
  CELL_CXX_OBJECT_ (T) \
  const CellHost *cell_host; \
  CELL_EXTERN_C_ CELL_SHARED_ const CellItem *const __start_cell_items[]; \
  CELL_EXTERN_C_ CELL_SHARED_ const CellItem *const __stop_cell_items[]; \
  CELL_EXTERN_C_ __attribute__ ((visibility ("default"))) const CellEntry cell_entry; \
  const CellEntry cell_entry = { CELL_ABI_MAGIC, (uint32_t) sizeof (CellEntry), CELL_ABI_MAJOR, CELL_ABI_MINOR, CELL_BUILD_, \
    (uint16_t) sizeof (CellType), (uint16_t) sizeof (CellField), (uint16_t) sizeof (CellOptions), 0, version, \
    (uint32_t) sizeof (T), interface, #T, __start_cell_items, __stop_cell_items, &cell_host, \
    CELL_CXX_ENTRY_ (T) &cell_options_##T };

#ifndef __has_feature
# define __has_feature(x) 0
# define CELL_NO_HAS_FEATURE_
#endif
#if defined (__SANITIZE_ADDRESS__) || __has_feature (address_sanitizer)
# define CELL_BUILD_ADDRESS_ CELL_BUILD_ADDRESS_SANITIZER
#else
# define CELL_BUILD_ADDRESS_ 0
#endif
#if defined (__SANITIZE_THREAD__) || __has_feature (thread_sanitizer)
# define CELL_BUILD_THREAD_ CELL_BUILD_THREAD_SANITIZER
#else
# define CELL_BUILD_THREAD_ 0
#endif
#ifdef CELL_NO_HAS_FEATURE_
# undef __has_feature
# undef CELL_NO_HAS_FEATURE_
#endif
#ifdef __cplusplus
# define CELL_BUILD_LANGUAGE_ CELL_BUILD_CXX
#else
# define CELL_BUILD_LANGUAGE_ 0
#endif
#define CELL_BUILD_ (CELL_BUILD_POINTER_64 | CELL_BUILD_ADDRESS_ | CELL_BUILD_THREAD_ | CELL_BUILD_LANGUAGE_)

/* ---- what a handler may do --------------------------------------------------------------------- */

/* The host's functions; set before anything of the cell runs. */
extern CELL_HIDDEN_ const CellHost *cell_host;

/* cell_alloc (call, size) → void *, zeroed, 8-byte aligned, of the call; NULL when the call's bound is reached.
 * cell_print (call, "format", …) → const char *, of the call; "" when the bound is reached. */
#define cell_alloc(call, size) (cell_host->alloc ((call), (size)))
#define cell_print(call, ...) (cell_host->print ((call), __VA_ARGS__))

/* Row * = cell_array (call, out, entries, n)
 * Makes out->entries an array of n zeroed elements of the call, and returns it to be filled; NULL, and an empty array, when the
 * call's bound is reached.  In C the result is a void *. */

/* return cell_fail (call, InvalidAmount, "format", …);              a declared error
 * return cell_fail_status (call, CELL_ERROR_INVALID, "format", …);  one of <cell/errors.h> */
#define cell_fail(call, Error, ...) (cell_host->fail ((call), &cell_error_##Error, __VA_ARGS__))
#define cell_fail_status(call, status, ...) (cell_host->fail_status ((call), (status), __VA_ARGS__))

/* cell_emit (self, Ledger, transferred, .from = 1, .amount = 5);
 * Sends a signal to all that subscribed; never blocks.  Arguments are copied. */
#define cell_emit(self, T, ...) CELL_EMIT_ (self, T, __VA_ARGS__, )

/* cell_log_… (self, "format", …): one line of the cell's log, without a newline.  Any thread. */
#define cell_log_debug(self, ...) (cell_host->log ((self), CELL_LOG_DEBUG, __VA_ARGS__))
#define cell_log_info(self, ...) (cell_host->log ((self), CELL_LOG_INFO, __VA_ARGS__))
#define cell_log_warning(self, ...) (cell_host->log ((self), CELL_LOG_WARNING, __VA_ARGS__))
#define cell_log_error(self, ...) (cell_host->log ((self), CELL_LOG_ERROR, __VA_ARGS__))

/* An extension of the host, looked up once per file of the cell; NULL when the host does not have it, or has not this function. */
#ifdef __TINYC__
# define CELL_CACHE_READ_(p) (*(p))
# define CELL_CACHE_WRITE_(p, value) (*(p) = (value))
#else
# define CELL_CACHE_READ_(p) __atomic_load_n ((p), __ATOMIC_ACQUIRE)
# define CELL_CACHE_WRITE_(p, value) __atomic_store_n ((p), (value), __ATOMIC_RELEASE)
#endif
#define CELL_EXTENSION_(Type, get, id) \
  CELL_UNUSED static inline const Type *get (void) \
  { \
    static const Type *cached; \
    const Type *extension = CELL_CACHE_READ_ (&cached); \
    if (!extension) \
      { \
        extension = (const Type *) cell_host->get_extension (id); \
        CELL_CACHE_WRITE_ (&cached, extension); \
      } \
    return extension; \
  }
CELL_EXTENSION_ (CellHostDefer, cell_extension_defer_, CELL_EXTENSION_DEFER)
CELL_EXTENSION_ (CellHostClient, cell_extension_client_, CELL_EXTENSION_CLIENT)
CELL_EXTENSION_ (CellHostConfig, cell_extension_config_, CELL_EXTENSION_CONFIG)
CELL_EXTENSION_ (CellHostBlob, cell_extension_blob_, CELL_EXTENSION_BLOB)
CELL_EXTENSION_ (CellHostState, cell_extension_state_, CELL_EXTENSION_STATE)
#define CELL_HAS_(table, Type, member) \
  ((table) && (table)->size >= offsetof (Type, member) + sizeof (((Type *) 0)->member) && (table)->member)

/* uint64_t id = cell_defer (call);   if (!id) return CELL_ERROR_UNSUPPORTED;   …   return CELL_DEFERRED;
 * Keeps the call, to be answered later.  The id is never reused and may be saved: a restored instance goes on with it.  0, with the
 * error set, when the host cannot. */
CELL_UNUSED static inline uint64_t
cell_defer (CellCall *call)
{
  const CellHostDefer *defer = cell_extension_defer_ ();
  if (CELL_HAS_ (defer, CellHostDefer, defer))
    return defer->defer (call);
  cell_fail_status (call, CELL_ERROR_UNSUPPORTED, "this host cannot keep calls");
  return 0;
}

/* The kept call, to be answered now; NULL when it is known that nobody waits for it any more.  Who gives up does not say so: then
 * the answer is dropped. */
CELL_UNUSED static inline CellCall *
cell_resume (void *self, uint64_t id)
{
  const CellHostDefer *defer = cell_extension_defer_ ();
  return CELL_HAS_ (defer, CellHostDefer, resume) ? defer->resume (self, id) : NULL;
}

CELL_UNUSED static inline const void *
cell_request_ (CellCall *call)
{
  const CellHostDefer *defer = cell_extension_defer_ ();
  return CELL_HAS_ (defer, CellHostDefer, request) ? defer->request (call) : NULL;
}

CELL_UNUSED static inline void
cell_answer_ (CellCall *call, CellStatus status, const void *out)
{
  const CellHostDefer *defer = cell_extension_defer_ ();
  if (CELL_HAS_ (defer, CellHostDefer, answer))
    defer->answer (call, status, out);
}

/* cell_request (call, Ledger, transfer) → the `in` of a kept call, until it is answered.
 * cell_answer (call, Ledger, transfer, .balance = 5);   cell_answer_out (call, Ledger, transfer, &out);
 * cell_answer_fail (call, InvalidAmount, "format", …);  cell_answer_fail_status (call, CELL_ERROR_INVALID, "format", …);
 * Each answers a kept call, which is then gone. */
#define cell_request(call, T, method) ((const T##_##method##_in *) cell_request_ (call))
#define cell_answer(call, T, ...) CELL_ANSWER_ (call, T, __VA_ARGS__, )
#define cell_answer_out(call, T, method, out) cell_answer_ ((call), CELL_OK, CELL_CHECKED_ (T##_##method##_out, (out)))
#define cell_answer_fail(call, Error, ...) \
  do { CellCall *call_ = (call); cell_answer_ (call_, cell_fail (call_, Error, __VA_ARGS__), NULL); } while (0)
#define cell_answer_fail_status(call, status, ...) \
  do { CellCall *call_ = (call); cell_answer_ (call_, cell_fail_status (call_, status, __VA_ARGS__), NULL); } while (0)
/* a pointer of exactly this type, or a warning */
#define CELL_CHECKED_(Type, pointer) (1 ? pointer : (const Type *) 0)

/* The text that the user set for a key of this cell, or NULL; lasts as long as the instance. */
CELL_UNUSED static inline const char *
cell_config (void *self, const char *key)
{
  const CellHostConfig *config = cell_extension_config_ ();
  return CELL_HAS_ (config, CellHostConfig, get) ? config->get (self, key) : NULL;
}

/* The same as a whole number; the fallback, with a warning in the log, when the text is not one. */
CELL_UNUSED static inline int64_t
cell_config_i64 (void *self, const char *key, int64_t fallback)
{
  const char *text = cell_config (self, key);
  char *end;
  long long value;
  if (!text)
    return fallback;
  value = strtoll (text, &end, 0);
  if (end != text && *end == '\0')
    return value;
  cell_log_warning (self, "%s: \"%s\" is not a whole number; %" PRId64 " is used", key, text, fallback);
  return fallback;
}

/* A writable blob of `size` bytes: of the call, or the cell's own when call is NULL, which unrefs it.  Sealed for good when it is
 * first handed out.  NULL when memory or the limit ran out, or the host has no blobs. */
CELL_UNUSED static inline CellBlob *
cell_blob_new (void *self, CellCall *call, size_t size)
{
  const CellHostBlob *blob = cell_extension_blob_ ();
  return CELL_HAS_ (blob, CellHostBlob, create) ? blob->create (self, call, size) : NULL;
}

/* Its bytes: writable until it is handed out, readable after that; NULL for NULL and for an empty one.  Any thread. */
CELL_UNUSED static inline void *
cell_blob_data (CellBlob *blob)
{
  return blob ? blob->api->data (blob) : NULL;
}

/* Its length in bytes; 0 for NULL.  Any thread. */
CELL_UNUSED static inline size_t
cell_blob_size (CellBlob *blob)
{
  return blob ? blob->api->get_size (blob) : 0;
}

/* Keeps a blob beyond its call, until cell_blob_unref ().  Any thread. */
CELL_UNUSED static inline CellBlob *
cell_blob_ref (CellBlob *blob)
{
  return blob ? blob->api->ref (blob) : NULL;
}

CELL_UNUSED static inline void
cell_blob_unref (CellBlob *blob)
{
  if (blob)
    blob->api->unref (blob);
}

/* In save: appends bytes.  CELL_OK, CELL_ERROR_NO_RESOURCES or CELL_ERROR_UNSUPPORTED. */
CELL_UNUSED static inline CellStatus
cell_state_write (CellState *to, const void *data, size_t size)
{
  const CellHostState *state = cell_extension_state_ ();
  return CELL_HAS_ (state, CellHostState, write) ? state->write (to, data, size) : (CellStatus) CELL_ERROR_UNSUPPORTED;
}

/* In save: appends a reflected struct with all that it refers to; mostly by cell_save (). */
CELL_UNUSED static inline CellStatus
cell_state_put (CellState *to, const CellType *type, const void *value)
{
  const CellHostState *state = cell_extension_state_ ();
  return CELL_HAS_ (state, CellHostState, put) ? state->put (to, type, value) : (CellStatus) CELL_ERROR_UNSUPPORTED;
}

/* In restore: the next bytes, in place until restore returns; NULL when there are fewer. */
CELL_UNUSED static inline const void *
cell_state_read (CellState *from, size_t size)
{
  const CellHostState *state = cell_extension_state_ ();
  return CELL_HAS_ (state, CellHostState, read) ? state->read (from, size) : NULL;
}

/* In restore: the next struct, in place until restore returns; NULL when it is not one; mostly by cell_restore (). */
CELL_UNUSED static inline const void *
cell_state_get (CellState *from, const CellType *type)
{
  const CellHostState *state = cell_extension_state_ ();
  return CELL_HAS_ (state, CellHostState, get) ? state->get (from, type) : NULL;
}

/* In restore: how many bytes are left. */
CELL_UNUSED static inline size_t
cell_state_left (CellState *from)
{
  const CellHostState *state = cell_extension_state_ ();
  return CELL_HAS_ (state, CellHostState, left) ? state->left (from) : 0;
}

/* return cell_save (to, LedgerState, &value);                   appends a struct; returns as cell_state_write () does
 * const LedgerState *old = cell_restore (from, LedgerState);    the next struct; NULL when there is none such.  Members that the
 *                                                               build that saved did not have are zero */
#define cell_save(to, Struct, ...) cell_state_put ((to), CELL_STRUCT_TYPE_ (Struct), CELL_CHECKED_ (Struct, (__VA_ARGS__)))
#define cell_restore(from, Struct) ((const Struct *) cell_state_get ((from), CELL_STRUCT_TYPE_ (Struct)))
#define CELL_STRUCT_TYPE_(Struct) (sizeof (cell_fields_##Struct) ? &cell_desc_##Struct : NULL)

/* ---- what differs between C and C++ ------------------------------------------------------------ */

CELL_UNUSED static inline void *
cell_alloc_array_ (CellCall *call, size_t n, size_t size)
{
  return n <= UINT32_MAX ? cell_host->alloc (call, n * size) : NULL;
}

#ifndef __cplusplus

# define cell_array(call, out, member, n) __extension__ ({ \
    size_t n_ = (n); \
    __typeof__ (*(out)->member) *array_ = cell_alloc_array_ ((call), n_, sizeof *array_); \
    (out)->member = array_; \
    (out)->n_##member = array_ ? (uint32_t) n_ : 0; \
    (void *) array_; })
# define CELL_EMIT_(self, T, s, ...) (cell_host->emit ((self), &T##_##s##_signal, __extension__ &(T##_##s) { __VA_ARGS__ }))
# define CELL_ANSWER_(call, T, method, ...) cell_answer_ ((call), CELL_OK, __extension__ &(T##_##method##_out) { __VA_ARGS__ })
# define CELL_GUARD_(call, ...) { __VA_ARGS__ }
# define CELL_GUARD_SELF_(...) { __VA_ARGS__ }
# define CELL_GUARD_VOID_(...) { __VA_ARGS__ }
# define CELL_CXX_OBJECT_(T)
# define CELL_CXX_ENTRY_(T) NULL, NULL,

#else

extern "C++"
{
template <class E> static inline E *
cell_array_ (CellCall *call, const E *&member, uint32_t &n_member, size_t n)
{
  E *array = static_cast<E *> (cell_alloc_array_ (call, n, sizeof (E)));
  member = array;
  n_member = array ? static_cast<uint32_t> (n) : 0;
  return array;
}

template <class A> static inline void
cell_emit_ (void *self, const CellItem *signal, const A &args)
{
  cell_host->emit (self, signal, &args);
}

template <class O> static inline void
cell_answer_value_ (CellCall *call, const O &out)
{
  cell_answer_ (call, CELL_OK, &out);
}
}
# define cell_array(call, out, member, n) (cell_array_ ((call), (out)->member, (out)->n_##member, (n)))
# define CELL_EMIT_(self, T, s, ...) (cell_emit_ ((self), &T##_##s##_signal, T##_##s { __VA_ARGS__ }))
# define CELL_ANSWER_(call, T, method, ...) cell_answer_value_ ((call), T##_##method##_out { __VA_ARGS__ })
# ifdef __cpp_exceptions
#  define CELL_CATCH_(fail) \
    catch (const std::bad_alloc &) { return fail (CELL_ERROR_NO_RESOURCES, "out of memory"); } \
    catch (const std::invalid_argument &e) { return fail (CELL_ERROR_INVALID, e.what ()); } \
    catch (const std::out_of_range &e) { return fail (CELL_ERROR_INVALID, e.what ()); } \
    catch (const std::exception &e) { return fail (CELL_ERROR_FAILED, e.what ()); } \
    catch (...) { return fail (CELL_ERROR_FAILED, "an exception that is not a std::exception"); }
#  define CELL_FAIL_CALL_(status, what) cell_host->fail_status (call, status, "%s", what)
#  define CELL_FAIL_SELF_(status, what) (cell_host->log (self, CELL_LOG_ERROR, "%s", what), (CellStatus) status)
#  define CELL_GUARD_(call, ...) { try { __VA_ARGS__ } CELL_CATCH_ (CELL_FAIL_CALL_) }
#  define CELL_GUARD_SELF_(...) { try { __VA_ARGS__ } CELL_CATCH_ (CELL_FAIL_SELF_) }
#  define CELL_GUARD_VOID_(...) { try { __VA_ARGS__ } CELL_CATCH_ ((void) CELL_FAIL_SELF_) }
# else
#  define CELL_GUARD_(call, ...) { __VA_ARGS__ }
#  define CELL_GUARD_SELF_(...) { __VA_ARGS__ }
#  define CELL_GUARD_VOID_(...) { __VA_ARGS__ }
# endif
# define CELL_CXX_OBJECT_(T) \
    static CellStatus cell_construct_##T (void *self) CELL_GUARD_SELF_ (new (self) T (); return CELL_OK;) \
    static void cell_destruct_##T (void *self) CELL_GUARD_VOID_ (static_cast<T *> (self)->~T ();)
# define CELL_CXX_ENTRY_(T) cell_construct_##T, cell_destruct_##T,

#endif
#endif
