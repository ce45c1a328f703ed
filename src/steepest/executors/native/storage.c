/* Values kept in fewer bytes, to the bit as codecs.py keeps them. MIXED, the steps and the grids come from there. */

static inline uint32_t key_of(uint32_t stream, uint32_t step, uint32_t slot) {
  return mixed(mixed(step + stream) + slot);
}

static inline uint32_t block_key(uint32_t key, int64_t element) {
  const uint64_t block = (uint64_t)element / STORAGE_BLOCK;
  return mixed(key + (uint32_t)block * BLOCK_STEP + (uint32_t)(block >> 32) * FAR_BLOCK_STEP);
}

static inline uint32_t random_bits(uint32_t key, int64_t lane) { return key + (uint32_t)lane * LANE_STEP; }

static inline bfloat16 store_stochastic(float x, uint32_t random) {
  const uint32_t u = bits_of(x), magnitude = u & 0x7fffffff;
  const uint32_t rounded = u + (magnitude < 0x7f800000 ? random >> (32 - DROPPED_BITS) : 0);
  return (bfloat16)(rounded >> 16 | (magnitude > 0x7f800000 ? QUIET : 0));
}

static inline bfloat16 store_compensation(float x, bfloat16 rounded) {
  const float kept = load_bfloat16(rounded);
  return store_bfloat16(fabsf(kept) < INFINITY ? x - kept : 0);
}

/* One grid of 8-bit values relative to a block's largest. The largest is found among the numbers' bits, which are in the
   numbers' order and let a NaN win. */
#define GRID(NAME, TOP, SHIFT, SIGN, LARGEST, SMALLEST_SCALE)                                                         \
  static inline float unit_##NAME(float scale) { return fabsf(scale) < INFINITY ? scale / LARGEST : NAN; }            \
  static inline float level_##NAME(uint8_t code) {                                                                    \
    const float magnitude = float_of(((uint32_t)(code & TOP) << SHIFT) + ONE) - 1.0f;                                 \
    return code & SIGN ? -magnitude : magnitude;                                                                      \
  }                                                                                                                   \
  static inline void encode_##NAME(const float *restrict x, int64_t size, uint8_t *restrict codes,                    \
                                   float *restrict kept_scale, uint32_t key) {                                        \
    uint32_t largest = 0;                                                                                             \
    for (int64_t i = 0; i < size; i++) {                                                                              \
      const uint32_t magnitude = bits_of(x[i]) & 0x7fffffff;                                                          \
      largest = magnitude > largest ? magnitude : largest;                                                            \
    }                                                                                                                 \
    float scale = float_of(largest);                                                                                  \
    if (scale > 0 && scale < SMALLEST_SCALE) scale = SMALLEST_SCALE;                                                  \
    *kept_scale = scale;                                                                                              \
    if (!(scale < INFINITY)) {                                                                                        \
      memset(codes, 0, (size_t)size);                                                                                 \
      return;                                                                                                         \
    }                                                                                                                 \
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;                                                            \
    for (int64_t i = 0; i < size; i++) {                                                                              \
      const float magnitude = SIGN ? fabsf(x[i]) : x[i] > 0 ? x[i] : 0.0f;                                            \
      const uint32_t bits = bits_of(magnitude * inverse * LARGEST + 1.0f);                                            \
      const uint32_t rounded = bits + (random_bits(key, i) >> (32 - SHIFT));                                          \
      const uint32_t level = (rounded >> SHIFT) - (ONE >> SHIFT);                                                     \
      const uint32_t code = level < TOP ? level : TOP;                                                                \
      const uint32_t least = !SIGN && x[i] > 0 && code == 0;                                                          \
      const uint32_t negative = code > 0 ? bits_of(x[i]) >> 24 & SIGN : 0;                                            \
      codes[i] = (uint8_t)(code | least | negative);                                                                  \
    }                                                                                                                 \
  }
