/* What every kernel knows of a parameter, and the generated functions that it calls. */
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

enum { CPU = 1, FLOAT = 2, BFLOAT = 4, COMPLEX = 5 };

/* What one call of a generated function runs over; see elements.c and tiles.c. */
typedef struct Part Part;

/* A parameter seen as matrices, the sizes of the tiles that each of them is cut into, the counts of tiles, and the number of
   matrices in a tile. `numbers` and `sums` say where in the parameter's room those of all matrices, rows and columns start, and `room` how large it is. */
typedef struct {
  int64_t matrices, rows, columns;
  int64_t height, width, down, across, stack;
  struct {
    int64_t matrix, row, column;
  } numbers, sums;
  int64_t room;
} Matrices;

/* One parameter: addresses of p, g and its state, and of its counters, the Python objects that they were read from, and
   its place among all blocks, its stream of random bits, the place of its first element in the stream, and its room. */
typedef struct {
  char *data[SLOTS];
  char *counters[COUNTERS + 1];
  Object *objects[SLOTS + COUNTERS];
  int64_t size, first_block, row, first;
  uint32_t stream;
  Matrices seen;
  double *room;
} Item;

/* The generated functions. */
static void host(const double *numbers, const double *counters, double *constants, double *fresh);
static void reduce(int phase, const Item *item, const double *constants, const double *reduced, const Part *part,
                   double *sums);
static void combine(int phase, const Item *item, const double *constants, const double *sums, double *reduced);
static void update(const Item *item, const double *constants, const double *reduced, const Part *part);

/* Why a tensor cannot be run as it is. */
enum {
  FITS = 0, OTHER_TYPE = 1, OTHER_DTYPE = 2, OTHER_LAYOUT = 3, MISSING = 4, NOT_DENSE = 5, SHARED = 6, NO_MEMORY = 7,
  NO_MATRIX = 8, CUT_BLOCKS = 9, REASONS = 16
};

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
