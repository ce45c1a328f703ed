/* Values kept in fewer bytes, to the bit as codecs.py keeps them. MIXED, the steps and the grids come from there. Loops over
   a block count in 32 bits and read LANE_BITS, the lanes' multiples of LANE_STEP: in a vector of 64-bit counters, the
   counting would cost as much as the rounding. */

static inline uint32_t key_of(uint32_t stream, uint32_t step, uint32_t slot) {
  return mixed(mixed(step + stream) + slot);
}

static inline uint32_t block_key(uint32_t key, int64_t element) {
  const uint64_t block = (uint64_t)element / STORAGE_BLOCK;
  return mixed(key + (uint32_t)block * BLOCK_STEP + (uint32_t)(block >> 32) * FAR_BLOCK_STEP);
}

static inline uint32_t random_bits(uint32_t key, int32_t lane) { return key + LANE_BITS[lane]; }

/* An infinity keeps its bits: the sum never carries out of the bits that are dropped, which are 0. */
static inline bfloat16 store_stochastic(float x, uint32_t random) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = x == x ? u + (random >> (32 - DROPPED_BITS)) : u | (uint32_t)QUIET << 16;
  return (bfloat16)(rounded >> 16);
}

static inline bfloat16 store_compensation(float x, bfloat16 rounded) {
  const float kept = load_bfloat16(rounded);
  return store_bfloat16(fabsf(kept) < INFINITY ? x - kept : 0);
}

/* The size of a number as an integer, which is in the numbers' order and lets a NaN win. */
static inline uint32_t magnitude_of(float x) { return bits_of(x) & 0x7fffffff; }

/* One grid of 8-bit values relative to a block's largest. */
#define GRID(NAME, TOP, SHIFT, SIGN, LARGEST, SMALLEST_SCALE)                                                         \
  static inline float unit_##NAME(float scale) { return fabsf(scale) < INFINITY ? scale / LARGEST : NAN; }            \
  static inline float level_##NAME(uint8_t code) {                                                                    \
    const float magnitude = float_of(((uint32_t)(code & TOP) << SHIFT) + ONE) - 1.0f;                                 \
    return SIGN ? float_of(bits_of(magnitude) ^ (uint32_t)(code & SIGN) << 24) : magnitude;                           \
  }                                                                                                                   \
  static inline void encode_##NAME(const float *restrict x, uint32_t largest, int32_t size, uint8_t *restrict codes,  \
                                   float *restrict kept_scale, uint32_t key) {                                        \
    float scale = float_of(largest);                                                                                  \
    if (scale > 0 && scale < SMALLEST_SCALE) scale = SMALLEST_SCALE;                                                  \
    *kept_scale = scale;                                                                                              \
    if (!(scale < INFINITY)) {                                                                                        \
      memset(codes, 0, (size_t)size);                                                                                 \
      return;                                                                                                         \
    }                                                                                                                 \
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;                                                            \
    for (int32_t i = 0; i < size; i++) {                                                                              \
      const float magnitude = SIGN ? fabsf(x[i]) : x[i] > 0 ? x[i] : 0.0f;                                            \
      const uint32_t bits = bits_of(magnitude * inverse * LARGEST + 1.0f);                                            \
      const uint32_t rounded = (bits + (random_bits(key, i) >> (32 - SHIFT))) >> SHIFT;                               \
      const uint32_t level = (rounded < TOP + (ONE >> SHIFT) ? rounded : TOP + (ONE >> SHIFT)) - (ONE >> SHIFT);      \
      const uint32_t least = bits_of(magnitude) < 1 ? 0 : 1; /* what is positive stays so */                          \
      const uint32_t raised = level > least ? level : least, negative = bits_of(x[i]) >> 24 & SIGN;                   \
      codes[i] = (uint8_t)(!SIGN ? raised : level ? level | negative : 0);                                            \
    }                                                                                                                 \
  }
