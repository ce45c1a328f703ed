/* Kernels that see a tensor as a sequence of elements, which is cut into blocks. */

/* Numbers of tensors are so few that the calling thread computes them. */
enum { SHARES_NUMBERS = 0 };

/* Elements in a row. */
struct Part {
  int64_t low, high;
};

static int see(Item *item, const View *p) { return (void)p, item->seen.room = 0, FITS; }
static int fits_line(int layout, const View *p, const View *x) { return (void)layout, (void)p, (void)x, 0; }
static int64_t numbers_of(int layout, const Item *item) { return (void)layout, (void)item, 1; }
static int64_t blocks_of(const Item *item) { return (item->size + BLOCK - 1) / BLOCK; }

static Part elements_of(const Item *item, int64_t from, int64_t to) {
  return (Part){from * BLOCK, to * BLOCK < item->size ? to * BLOCK : item->size};
}

/* Run a phase over some blocks, with room for the sums of each. The update takes them all at once. */
static void run_part(int phase, const Item *item, const double *constants, const double *reduced, int64_t from, int64_t to,
                     double *sums) {
  for (int64_t b = from; b < to && phase < PHASES; b++) {
    const Part part = elements_of(item, b, b + 1);
    reduce(phase, item, constants, reduced, &part, sums + b * SUMS);
  }
  const Part all = elements_of(item, from, to);
  if (phase == PHASES) update(item, constants, reduced, &all);
}
