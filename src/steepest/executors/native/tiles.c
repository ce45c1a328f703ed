/* Kernels that see a tensor as matrices, which are cut into tiles of whole rows or, if these are long, of parts of rows.
   Short rows make up tiles of one block's size, and of several matrices if these are small. */

/* Threads share out the numbers of matrices, rows and columns. A tile has at most so many columns and elements, and of rows
   with less than NARROW columns as many elements as another one has columns. */
enum { SHARES_NUMBERS = 1, NARROW = 16, MOST_COLUMNS = 1024, TILE = 1 << 16 };

/* Numbers and sums of a kernel in its parameter's room, where b, r and c are the places of matrix, row and column, and n is
   that of a tile among those beside or below each other. */
#define MATRIX_NUMBER(k) item->room[item->seen.numbers.matrix + k * item->seen.matrices + b]
#define ROW_NUMBER(k) item->room[item->seen.numbers.row + (k * item->seen.matrices + b) * item->seen.rows + r]
#define COLUMN_NUMBER(k) item->room[item->seen.numbers.column + (k * item->seen.matrices + b) * item->seen.columns + c]
#define ROW_SUM(k) item->room[item->seen.sums.row + ((k * item->seen.matrices + b) * item->seen.rows + r) * item->seen.across + n]
#define COLUMN_SUM(k) \
  item->room[item->seen.sums.column + ((k * item->seen.matrices + b) * item->seen.down + n) * item->seen.columns + c]

/* A tile of a matrix, or of several whole ones: its rows and columns, and its place among the tiles below and beside each
   other. */
struct Part {
  int64_t matrix, last_matrix, row, last_row, column, width, down, across;
};

static int is_row_major(const View *x) {
  int64_t expected = 1;
  for (int d = x->ndim - 1; d >= 0 && size_of(x); d--) {
    if (x->shape[d] != 1 && x->strides[d] != expected) return 0;
    expected *= x->shape[d];
  }
  return 1;
}

static int64_t at_most(int64_t x, int64_t most) { return x < most ? x : most; }
static int64_t over(int64_t x, int64_t size) { return size ? (x + size - 1) / size : 0; }

/* Whether a dimension is one that numbers of a layout change along. */
static int changes(int layout, int d, int ndim) {
  if (UNITS) return layout == ROW && d == 0;
  return d < ndim - 2 || (layout == ROW && d == ndim - 2) || (layout == COLUMN && d == ndim - 1);
}

static int fits_line(int layout, const View *p, const View *x) {
  if (x->ndim != p->ndim || !is_row_major(x)) return 0;
  for (int d = 0; d < x->ndim; d++)
    if (x->shape[d] != (changes(layout, d, p->ndim) ? p->shape[d] : 1)) return 0;
  return 1;
}

/* How many numbers a parameter has in a layout. */
static int64_t numbers_of(int layout, const Item *item) {
  const Matrices *seen = &item->seen;
  return layout == TENSOR ? 1 : seen->matrices * (layout == ROW ? seen->rows : layout == COLUMN ? seen->columns : 1);
}

/* Lay out the numbers of matrices, rows and columns, and the sums of parts of rows and columns. */
static void lay_out(Item *item) {
  Matrices *seen = &item->seen;
  const int64_t rows = numbers_of(ROW, item), columns = numbers_of(COLUMN, item);
  seen->numbers.matrix = 0;
  seen->numbers.row = MATRIX_NUMBERS * seen->matrices;
  seen->numbers.column = seen->numbers.row + ROW_NUMBERS * rows;
  seen->sums.row = seen->numbers.column + COLUMN_NUMBERS * columns;
  seen->sums.column = seen->sums.row + ROW_SUMS * rows * seen->across;
  seen->room = seen->sums.column + COLUMN_SUMS * columns * seen->down;
}

/* See a parameter as matrices, and cut these into tiles. */
static int see(Item *item, const View *p) {
  const int n = p->ndim;
  Matrices *seen = &item->seen;
  if (n < 2 && (!TAKES_VECTORS || p->code == COMPLEX)) return NO_MATRIX;
  if (p->code == COMPLEX && !UNITS) return NO_MATRIX; /* pairs would be a dimension of their own */
  if (!is_row_major(p)) return OTHER_LAYOUT;
  seen->rows = UNITS ? (n > 1 ? p->shape[0] : 1) : p->shape[n - 2];
  seen->columns = UNITS ? (seen->rows ? item->size / seen->rows : 0) : p->shape[n - 1];
  if (IN_BLOCKS && seen->columns % STORAGE_BLOCK) return CUT_BLOCKS;
  seen->matrices = 1;
  for (int d = 0; d < n - 2 && !UNITS; d++) seen->matrices *= p->shape[d];
  seen->width = at_most(seen->columns, MOST_COLUMNS);
  const int64_t size = seen->columns < NARROW ? MOST_COLUMNS : TILE;
  seen->height = at_most(seen->rows, seen->width ? size / seen->width : 1);
  const int is_small = seen->columns < NARROW && seen->height == seen->rows && item->size;
  seen->stack = is_small ? MOST_COLUMNS / (seen->rows * seen->columns) : 1;
  seen->down = over(seen->rows, seen->height);
  seen->across = over(seen->columns, seen->width);
  lay_out(item);
  return FITS;
}

static int64_t blocks_of(const Item *item) {
  return item->size ? over(item->seen.matrices, item->seen.stack) * item->seen.down * item->seen.across : 0;
}

/* The tile at a place among tiles beside and below each other in a matrix. */
static Part tile_at(const Matrices *seen, int64_t matrix, int64_t down, int64_t across) {
  const int64_t row = down * seen->height, column = across * seen->width;
  const int64_t last_row = at_most(row + seen->height, seen->rows), width = at_most(seen->width, seen->columns - column);
  return (Part){matrix, at_most(matrix + seen->stack, seen->matrices), row, last_row, column, width, down, across};
}

/* The tile after another one. Divisions would take as long as the elements of a small one. */
static Part next_tile(const Matrices *seen, const Part *tile) {
  const int is_last = tile->across + 1 == seen->across, is_lowest = is_last && tile->down + 1 == seen->down;
  const int64_t down = is_lowest ? 0 : tile->down + is_last;
  return tile_at(seen, tile->matrix + is_lowest * seen->stack, down, is_last ? 0 : tile->across + 1);
}

/* Run a phase over some tiles, with room for the sums of each. */
static void run_part(int phase, const Item *item, const double *constants, const double *reduced, int64_t from, int64_t to,
                     double *sums) {
  const Matrices *seen = &item->seen;
  const int64_t bands = from / seen->across;
  Part tile = tile_at(seen, bands / seen->down * seen->stack, bands % seen->down, from % seen->across);
  for (int64_t b = from; b < to; b++, tile = next_tile(seen, &tile)) {
    if (phase == PHASES) update(item, constants, reduced, &tile);
    else reduce(phase, item, constants, reduced, &tile, sums + b * SUMS);
  }
}
