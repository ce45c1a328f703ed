/* The part of every kernel that no rule changes: it reads tensors' addresses, spreads blocks over threads and runs the
   generated functions. Python calls `steepest_load` (holding the interpreter's lock), then `steepest_run` (without). */

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

/* What the kernel writes, in order of address: a range of bytes for each tensor, and the item that it belongs to. */
typedef struct {
  uintptr_t low, high;
  int64_t item;
} Range;

typedef struct {
  int64_t count;
  Range range[];
} Written;

/* Whether a tensor is laid out as its slot wants it: as the parameter, one number for each block, or numbers of a line. */
static int fits(int layout, const View *p, const View *x) {
  if (layout == LIKE) return same_layout(p, x);
  if (layout == TENSOR) return size_of(x) == 1;
  if (layout != BLOCKS) return fits_line(layout, p, x);
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
    if (answer) return answer + REASONS * s;
    if (s == 0) {
      first = view;
      if (!is_dense(&view)) return NOT_DENSE;
      item->size = size_of(&view) * (view.code == COMPLEX ? 2 : 1);
      if ((answer = see(item, &view))) return answer;
    } else if (!fits(LAYOUTS[s], &first, &view)) {
      return OTHER_LAYOUT + REASONS * s;
    }
    if (s == 1) item->data[s] = view.data;
    else note(item, s, x, &item->data[s], &view, changed);
  }
  const int answer = load_counters(python, held, names, item, changed);
  return answer ? answer + REASONS * SLOTS : FITS;
}

static Range range_of(const Item *item, int64_t index, int s) {
  const int64_t blocks = (item->size + STORAGE_BLOCK - 1) / STORAGE_BLOCK;
  const int64_t numbers = LAYOUTS[s] == LIKE ? item->size : LAYOUTS[s] == BLOCKS ? blocks : numbers_of(LAYOUTS[s], item);
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
   reason + REASONS * slot) of the first tensor that does not fit. `changed` becomes nonzero if a parameter or its state is
   another object, or lies elsewhere, than last time: then `written` is listed anew. `streams` are the parameters'
   streams of random bits, with the block of the stream that each starts at in their upper halves. `needed` becomes the
   number of doubles that `steepest_run` needs. */
int64_t steepest_load(const Interpreter *python, Item *items, int64_t count, Object *params, Object *grads,
                      Object *states, Object *const *names, int64_t *changed, const int64_t *streams,
                      Written *written, int64_t *needed) {
  int64_t blocks = 0;
  *needed = count * (CONSTANTS + REDUCTIONS + 1);
  for (int64_t i = 0; i < count; i++) {
    const int answer = load_item(python, python->list_item(params, i), python->list_item(grads, i),
                                 python->list_item(states, i), names, &items[i], changed);
    if (answer) return -1 - (i * 1024 + answer);
    items[i].first_block = blocks;
    items[i].stream = (uint32_t)streams[i];
    items[i].first = (streams[i] >> 32) * STORAGE_BLOCK;
    blocks += blocks_of(&items[i]);
    *needed += blocks_of(&items[i]) * SUMS + items[i].seen.room;
  }
  const int64_t answer = *changed ? list_written(items, count, written) : 0;
  if (answer) return answer;
  for (int64_t i = 0; i < count; i++)
    if (items[i].size && is_written(&items[i], written)) return -1 - (i * 1024 + SHARED + REASONS);
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
    const int64_t from = block - item->first_block, most = blocks_of(item);
    const int64_t to = end - item->first_block < most ? end - item->first_block : most;
    const double *constants = work->rows + item->row * CONSTANTS;
    double *reduced = work->reduced + (item - work->items) * (REDUCTIONS + 1);
    run_part(work->phase, item, constants, reduced, from, to, work->partial + item->first_block * SUMS);
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

/* Add the blocks' partial sums of a parameter in their order, then compute what depends on them only. */
static void finish_item(const Work *work, int64_t i) {
  const Item *item = &work->items[i];
  double sums[SUMS + 1] = {0};
  const int64_t last = item->first_block + blocks_of(item);
  for (int64_t block = item->first_block; block < last && work->phase > 0; block++)
    for (int s = 0; s < SUMS; s++) sums[s] += work->partial[block * SUMS + s];
  combine(work->phase, item, work->rows + item->row * CONSTANTS, sums, work->reduced + i * (REDUCTIONS + 1));
}

/* Threads take parameters until none is left. */
static void share_items(void *argument) {
  Work *work = argument;
  for (int64_t i; (i = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED)) < work->count;) finish_item(work, i);
}

/* Less work than FEW_ELEMENTS stays on the calling thread: waking the others would cost more than they help. */
enum { FEW_ELEMENTS = 1 << 17, MOST_ELEMENTS = 1 << 18 };

/* How many blocks a thread takes at a time: an equal share, so that each processor meets the same memory at every step,
   but no more than balances the threads' speeds over a large problem. */
static int64_t stride_of(int64_t blocks, int64_t size, int threads) {
  const int64_t share_of_one = (blocks + threads - 1) / threads;
  const int64_t most = size > MOST_ELEMENTS ? (int64_t)((double)MOST_ELEMENTS * (double)blocks / (double)size) : blocks;
  return share_of_one < most ? share_of_one : most > 0 ? most : 1;
}

/* One step of all parameters. `scratch` holds count rows of CONSTANTS, count of REDUCTIONS + 1, blocks of SUMS, and then
   the parameters' rooms. */
void steepest_run(Item *items, int64_t count, int64_t blocks, const double *numbers, double *scratch, Parallel parallel,
                  int threads) {
  double *reduced = scratch + count * CONSTANTS, *partial = reduced + count * (REDUCTIONS + 1);
  double *room = partial + blocks * SUMS;
  int64_t size = 0;
  for (int64_t i = 0; i < count; size += items[i].size, room += items[i].seen.room, i++) items[i].room = room;
  const int alone = size < FEW_ELEMENTS || threads < 2 || !parallel;
  Work work = {items, count, blocks, stride_of(blocks, size, threads), 0, scratch, partial, reduced, 0};
  count_steps(items, count, numbers, scratch);
  for (work.phase = 0; work.phase < PHASES;) {
    work.next = 0;
    if (NUMBERS && SHARES_NUMBERS && !alone) parallel(share_items, &work, (unsigned)threads, 0);
    else if (NUMBERS) share_items(&work);
    work.phase++;
    work.next = 0;
    if (work.phase < PHASES && !(ADDING >> work.phase & 1)) continue; /* sums of numbers only */
    if (!alone) parallel(share, &work, (unsigned)threads, 0);
    else if (blocks) run_blocks(&work, 0, blocks);
  }
}

int64_t steepest_item_size(void) { return sizeof(Item); }

int64_t steepest_written_size(int64_t count) { return (int64_t)(sizeof(Written) + (size_t)count * SLOTS * sizeof(Range)); }
