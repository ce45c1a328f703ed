/* The part of every kernel that no rule changes: it reads tensors' addresses, spreads blocks over threads and runs the
   generated functions. Python calls `steepest_load` (holding the interpreter's lock), then `steepest_run` (without). */

#include <stdlib.h>

typedef void Object;

/* DLPack's description of a tensor; see the DLPack specification, 1.x. */
typedef struct {
  void *data;
  int32_t device_type, device_id, ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} View;

/* Less work than FEW_BLOCKS stays on the calling thread: waking the others would cost more than they help. */
enum { FEW_BLOCKS = 128, MOST_BLOCKS = 256 };

enum { CPU = 1, FLOAT = 2, BFLOAT = 4, COMPLEX = 5 };

/* What the interpreter lends: functions of Python's stable interface and of torch's DLPack exchange interface. */
typedef struct {
  Object *(*list_item)(Object *, ptrdiff_t);
  Object *(*dict_item)(Object *, Object *);
  Object *(*type_of)(Object *);
  void (*release)(Object *);
  int (*view)(Object *, View *);
  void (*clear_error)(void);
  Object *tensor_type, *parameter_type, *none;
} Interpreter;

/* What torch's OpenMP library lends, or null: then all runs on the calling thread. */
typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);

/* One parameter: addresses of p, g and its state, and of its counters, the Python objects that they were read from, and
   its place among all blocks, its stream of random bits, and the place of its first element in the stream. */
typedef struct {
  char *data[SLOTS];
  char *counters[COUNTERS + 1];
  Object *objects[SLOTS + COUNTERS];
  int64_t size, first_block, row, first;
  uint32_t stream;
} Item;

/* What the kernel writes, in order of address: a range of bytes for each tensor, and the item that it belongs to. */
typedef struct {
  uintptr_t low, high;
  int64_t item;
} Range;

typedef struct {
  int64_t count;
  Range range[];
} Written;

/* The generated functions. */
static void host(const double *numbers, const double *counters, double *constants, double *fresh);
static void reduce(int phase, const Item *item, const double *constants, const double *reduced, int64_t low,
                   int64_t high, double *sums);
static void combine(int phase, const Item *item, const double *constants, const double *sums, double *reduced);
static void update(const Item *item, const double *constants, const double *reduced, int64_t low, int64_t high);

/* Why a tensor cannot be run as it is. */
enum { FITS = 0, OTHER_TYPE = 1, OTHER_DTYPE = 2, OTHER_LAYOUT = 3, MISSING = 4, NOT_DENSE = 5, SHARED = 6, NO_MEMORY = 7 };

static int64_t size_of(const View *x) {
  int64_t size = 1;
  for (int d = 0; d < x->ndim; d++) size *= x->shape[d];
  return size;
}

static int is_dense(const View *x) {
  int64_t expected = 1;
  int d;
  if (!size_of(x)) return 1;
  for (d = x->ndim - 1; d >= 0 && (x->shape[d] == 1 || x->strides[d] == expected); d--) expected *= x->shape[d];
  if (d < 0) return 1;
  /* Not row-major: dense all the same if some order of the dimensions fills the memory without a gap. */
  uint64_t used = 0;
  expected = 1;
  for (int round = 0; round < x->ndim; round++) {
    int found = -1;
    for (d = 0; d < x->ndim && d < 64; d++)
      if (!(used >> d & 1) && (x->shape[d] == 1 || x->strides[d] == expected)) found = d;
    if (found < 0) return 0;
    used |= (uint64_t)1 << found;
    expected *= x->shape[found];
  }
  return 1;
}

static int same_layout(const View *x, const View *y) {
  if (x->ndim != y->ndim || (x->code == COMPLEX) != (y->code == COMPLEX)) return 0;
  for (int d = 0; d < x->ndim; d++)
    if (x->shape[d] != y->shape[d] || (x->shape[d] != 1 && x->strides[d] != y->strides[d])) return 0;
  return 1;
}

/* Whether a tensor is laid out as its slot wants it: as the parameter, one number, or one number for each block. */
static int fits(int layout, const View *p, const View *x) {
  if (layout == LIKE) return same_layout(p, x);
  if (layout == NUMBER) return size_of(x) == 1;
  return size_of(x) == (size_of(p) + STORAGE_BLOCK - 1) / STORAGE_BLOCK && x->ndim == 1 && (x->shape[0] < 2 || x->strides[0] == 1);
}

static int plain_type(const Interpreter *python, Object *x) {
  Object *type = python->type_of(x);
  python->release(type);
  return type == python->tensor_type || type == python->parameter_type;
}

/* A complex tensor is twice as many real numbers in the same order. */
static int view_of(const Interpreter *python, Object *x, const Dtype *expected, View *view) {
  if (!x || x == python->none) return MISSING;
  if (!plain_type(python, x)) return OTHER_TYPE;
  if (python->view(x, view)) {
    python->clear_error();
    return OTHER_TYPE;
  }
  if (view->device_type != CPU || view->lanes != 1) return OTHER_DTYPE;
  const int parts = view->code == COMPLEX ? 2 : 1;
  const int code = parts == 2 ? FLOAT : view->code;
  if (code != expected->code || view->bits != parts * expected->bits) return OTHER_DTYPE;
  if (!view->data) return size_of(view) ? NO_MEMORY : FITS;
  view->data = (char *)view->data + view->byte_offset;
  return FITS;
}

static void note(Item *item, int place, Object *x, char **address, const View *view, int64_t *changed) {
  *changed |= item->objects[place] != x || *address != (char *)view->data;
  item->objects[place] = x;
  *address = view->data;
}

static int load_counters(const Interpreter *python, Object *held, Object *const *names, Item *item, int64_t *changed) {
  for (int c = 0; c < COUNTERS; c++) {
    View view;
    Object *x = python->dict_item(held, names[SLOTS + c]);
    const int answer = view_of(python, x, &DTYPES[SLOTS + c], &view);
    if (answer) return answer;
    if (size_of(&view) != 1) return OTHER_LAYOUT;
    note(item, SLOTS + c, x, &item->counters[c], &view, changed);
  }
  return FITS;
}

static int load_item(const Interpreter *python, Object *p, Object *g, Object *held, Object *const *names, Item *item,
                     int64_t *changed) {
  View first = {0};
  for (int s = 0; s < SLOTS; s++) {
    View view;
    Object *x = s == 0 ? p : s == 1 ? g : python->dict_item(held, names[s]);
    int answer = view_of(python, x, &DTYPES[s], &view);
    if (answer) return answer + 8 * s;
    if (s == 0) {
      first = view;
      if (!is_dense(&view)) return NOT_DENSE;
      item->size = size_of(&view) * (view.code == COMPLEX ? 2 : 1);
    } else if (!fits(LAYOUTS[s], &first, &view)) {
      return OTHER_LAYOUT + 8 * s;
    }
    if (s == 1) item->data[s] = view.data;
    else note(item, s, x, &item->data[s], &view, changed);
  }
  const int answer = load_counters(python, held, names, item, changed);
  return answer ? answer + 8 * SLOTS : FITS;
}

static Range range_of(const Item *item, int64_t index, int s) {
  const int64_t blocks = (item->size + STORAGE_BLOCK - 1) / STORAGE_BLOCK;
  const int64_t numbers = LAYOUTS[s] == LIKE ? item->size : LAYOUTS[s] == NUMBER ? 1 : blocks;
  const uintptr_t low = (uintptr_t)item->data[s];
  return (Range){low, low + (uintptr_t)numbers * (DTYPES[s].bits / 8), index};
}

static int by_address(const void *a, const void *b) {
  const Range *x = a, *y = b;
  return (x->low > y->low) - (x->low < y->low);
}

/* List what the kernel writes. Threads write one parameter beside the other, so no two tensors may share memory. */
static int64_t list_written(const Item *items, int64_t count, Written *written) {
  written->count = 0;
  for (int64_t i = 0; i < count; i++)
    for (int s = 0; s < SLOTS; s++)
      if (s != 1 && items[i].size) written->range[written->count++] = range_of(&items[i], i, s);
  qsort(written->range, (size_t)written->count, sizeof(Range), by_address);
  for (int64_t k = 1; k < written->count; k++)
    if (written->range[k].low < written->range[k - 1].high) return -1 - (written->range[k].item * 1024 + SHARED);
  return 0;
}

/* Whether a gradient lies in what the kernel writes. */
static int is_written(const Item *item, const Written *written) {
  const Range gradient = range_of(item, 0, 1);
  int64_t low = 0, high = written->count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (written->range[middle].high > gradient.low) high = middle;
    else low = middle + 1;
  }
  return low < written->count && written->range[low].low < gradient.high;
}

/* Read the addresses of all parameters, gradients and state. Returns the number of blocks, or -1 - (index * 1024 +
   reason + 8 * slot) of the first tensor that does not fit. `changed` becomes nonzero if a parameter or its state is
   another object, or lies elsewhere, than last time: then `written` is listed anew. `streams` are the parameters'
   streams of random bits, with the block of the stream that each starts at in their upper halves. */
int64_t steepest_load(const Interpreter *python, Item *items, int64_t count, Object *params, Object *grads,
                      Object *states, Object *const *names, int64_t *changed, const int64_t *streams,
                      Written *written) {
  int64_t blocks = 0;
  for (int64_t i = 0; i < count; i++) {
    const int answer = load_item(python, python->list_item(params, i), python->list_item(grads, i),
                                 python->list_item(states, i), names, &items[i], changed);
    if (answer) return -1 - (i * 1024 + answer);
    items[i].first_block = blocks;
    items[i].stream = (uint32_t)streams[i];
    items[i].first = (streams[i] >> 32) * STORAGE_BLOCK;
    blocks += (items[i].size + BLOCK - 1) / BLOCK;
  }
  const int64_t answer = *changed ? list_written(items, count, written) : 0;
  if (answer) return answer;
  for (int64_t i = 0; i < count; i++)
    if (items[i].size && is_written(&items[i], written)) return -1 - (i * 1024 + SHARED + 8);
  return blocks;
}

static double read_counter(const Item *item, int c) {
  return DTYPES[SLOTS + c].bits == 64 ? *(double *)item->counters[c] : *(float *)item->counters[c];
}

static void write_counter(const Item *item, int c, double value) {
  if (DTYPES[SLOTS + c].bits == 64) *(double *)item->counters[c] = value;
  else *(float *)item->counters[c] = (float)value;
}

/* Count a step for each parameter, and run the host part once for each distinct set of counters. */
static void count_steps(Item *items, int64_t count, const double *numbers, double *rows) {
  double seen[COUNTERS + 1], fresh[COUNTERS + 1];
  int64_t row = -1;
  for (int64_t i = 0; i < count; i++) {
    double now[COUNTERS + 1];
    for (int c = 0; c < COUNTERS; c++) now[c] = read_counter(&items[i], c) + (c == STEP ? 1 : 0);
    if (row < 0 || memcmp(now, seen, COUNTERS * sizeof(double))) {
      row++;
      memcpy(seen, now, sizeof(seen));
      memcpy(fresh, now, sizeof(fresh));
      host(numbers, now, rows + row * CONSTANTS, fresh);
    }
    for (int c = 0; c < COUNTERS; c++) write_counter(&items[i], c, fresh[c]);
    items[i].row = row;
  }
}

typedef struct {
  Item *items;
  int64_t count, blocks, stride, next;
  const double *rows;
  double *partial, *reduced;
  int phase;
} Work;

static const Item *item_of(const Work *work, int64_t block) {
  int64_t low = 0, high = work->count - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (work->items[middle].first_block <= block) low = middle;
    else high = middle - 1;
  }
  return &work->items[low];
}

static void run_blocks(const Work *work, int64_t block, int64_t end) {
  for (const Item *item = item_of(work, block); block < end; item++) {
    if (!item->size) continue;
    const int64_t from = block - item->first_block, most = (item->size + BLOCK - 1) / BLOCK;
    const int64_t to = end - item->first_block < most ? end - item->first_block : most;
    const double *constants = work->rows + item->row * CONSTANTS;
    double *reduced = work->reduced + (item - work->items) * (REDUCTIONS + 1);
    const int64_t high = to * BLOCK < item->size ? to * BLOCK : item->size;
    if (work->phase == PHASES) {
      update(item, constants, reduced, from * BLOCK, high);
    } else {
      for (int64_t b = from; b < to; b++) {
        const int64_t last = (b + 1) * BLOCK < item->size ? (b + 1) * BLOCK : item->size;
        reduce(work->phase, item, constants, reduced, b * BLOCK, last, work->partial + (item->first_block + b) * SUMS);
      }
    }
    block = item->first_block + to;
  }
}

/* Threads take runs of blocks until none is left. Blocks are fixed, so no result depends on who takes which. */
static void share(void *argument) {
  Work *work = argument;
  for (;;) {
    const int64_t block = __atomic_fetch_add(&work->next, work->stride, __ATOMIC_RELAXED);
    if (block >= work->blocks) return;
    run_blocks(work, block, block + work->stride < work->blocks ? block + work->stride : work->blocks);
  }
}

/* Add the blocks' partial sums in their order, then compute what depends on them alone. */
static void finish_phase(Work *work) {
  for (int64_t i = 0; i < work->count && REDUCTIONS; i++) {
    const Item *item = &work->items[i];
    double sums[SUMS + 1] = {0};
    const int64_t last = item->first_block + (item->size + BLOCK - 1) / BLOCK;
    for (int64_t block = item->first_block; block < last && work->phase > 0; block++)
      for (int s = 0; s < SUMS; s++) sums[s] += work->partial[block * SUMS + s];
    combine(work->phase, item, work->rows + item->row * CONSTANTS, sums, work->reduced + i * (REDUCTIONS + 1));
  }
}

/* How many blocks a thread takes at a time: an equal share, so that each processor meets the same memory at every step,
   but no more than balances the threads' speeds over a large problem. */
static int64_t stride_of(int64_t blocks, int threads) {
  const int64_t share_of_one = (blocks + threads - 1) / threads;
  return share_of_one < MOST_BLOCKS ? share_of_one : MOST_BLOCKS;
}

/* One step of all parameters. `scratch` holds count rows of CONSTANTS, count of REDUCTIONS + 1, blocks of SUMS. */
void steepest_run(Item *items, int64_t count, int64_t blocks, const double *numbers, double *scratch, Parallel parallel,
                  int threads) {
  double *reduced = scratch + count * CONSTANTS;
  const int alone = blocks < FEW_BLOCKS || threads < 2 || !parallel;
  Work work = {items, count, blocks, stride_of(blocks, threads), 0, scratch, reduced + count * (REDUCTIONS + 1), reduced, 0};
  count_steps(items, count, numbers, scratch);
  for (work.phase = 0; work.phase < PHASES;) {
    finish_phase(&work);
    work.phase++;
    work.next = 0;
    if (!alone) parallel(share, &work, (unsigned)threads, 0);
    else if (blocks) run_blocks(&work, 0, blocks);
  }
}

int64_t steepest_item_size(void) { return sizeof(Item); }

int64_t steepest_written_size(int64_t count) { return (int64_t)(sizeof(Written) + (size_t)count * SLOTS * sizeof(Range)); }
