/* What generated code may say: the words of the vocabulary, in float and in double, and loads and stores of each dtype.
   Compiled without contraction (no fused multiply-add), so that every operation rounds once, as in torch's operations. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A maximum that propagates NaN, as torch.maximum does and fmaxf does not, and keeps the first of two zeros, as
   torch.clamp does. It compiles to a compare and a blend. */
#define WORDS(T, SUFFIX)                                                                                              \
  static inline T maximum_##SUFFIX(T a, T b) { return b > a || b != b ? b : a; }                                      \
  static inline T minimum_##SUFFIX(T a, T b) { return b < a || b != b ? b : a; }                                      \
  static inline T same_##SUFFIX(T x) { return x; }                                                                    \
  static inline T sign_##SUFFIX(T x) { return (T)((x > 0) - (x < 0)); }                                               \
  static inline T where_##SUFFIX(T condition, T a, T b) { return condition != 0 ? a : b; }                            \
  static inline T filled_##SUFFIX(T like, T value) { return (void)like, value; }                                      \
  static inline T lerp_##SUFFIX(T a, T b, T w) { return fabs(w) < (T)0.5 ? a + w * (b - a) : b + (w - 1) * (b - a); } \
  static inline T gt_##SUFFIX(T a, T b) { return a > b; }                                                             \
  static inline T ge_##SUFFIX(T a, T b) { return a >= b; }                                                            \
  static inline T lt_##SUFFIX(T a, T b) { return a < b; }                                                             \
  static inline T le_##SUFFIX(T a, T b) { return a <= b; }                                                            \
  static inline T eq_##SUFFIX(T a, T b) { return a == b; }                                                            \
  static inline T ne_##SUFFIX(T a, T b) { return a != b; }

WORDS(float, f)
WORDS(double, d)

static inline float sqrt_f(float x) { return sqrtf(x); }
static inline double sqrt_d(double x) { return sqrt(x); }
static inline float abs_f(float x) { return fabsf(x); }
static inline double abs_d(double x) { return fabs(x); }
static inline float log_f(float x) { return logf(x); }
static inline double log_d(double x) { return log(x); }
static inline float exp_f(float x) { return expf(x); }
static inline double exp_d(double x) { return exp(x); }
static inline float atan2_f(float y, float x) { return atan2f(y, x); }
static inline double atan2_d(double y, double x) { return atan2(y, x); }
static inline float sigmoid_f(float x) { return 1 / (1 + expf(-x)); }
static inline double sigmoid_d(double x) { return 1 / (1 + exp(-x)); }
static inline float pow_f(float a, float b) { return powf(a, b); }
static inline double pow_d(double a, double b) { return pow(a, b); }

/* A power by a number, as torch.pow computes it: by way of roots, which differ from pow at -inf and -0. */
static inline float power_f(float a, float b) { return b == 0.5f ? sqrtf(a) : b == -0.5f ? 1 / sqrtf(a) : powf(a, b); }
static inline double power_d(double a, double b) { return b == 0.5 ? sqrt(a) : b == -0.5 ? 1 / sqrt(a) : pow(a, b); }

/* The words of host expressions, which are in double. Those that are not here are C's own: sqrt, log, exp, atan2. */
static inline double maximum(double a, double b) { return a > b || a != a ? a : b; }
static inline double minimum(double a, double b) { return a < b || a != a ? a : b; }
static inline double absolute(double x) { return fabs(x); }
static inline double sign(double x) { return sign_d(x); }
static inline double sigmoid(double x) { return sigmoid_d(x); }
static inline double lerp(double a, double b, double w) { return a + w * (b - a); }
static inline double select(double condition, double a, double b) { return condition != 0 ? a : b; }
static inline double where(double condition, double a, double b) { return select(condition, a, b); }
static inline double rescaled(double x, double factor) { return x * factor; }
static inline double quotient(double a, double b) { return a / b; }
static inline double power(double a, double b) { return pow(a, b); }

/* Before a loop whose tensors share no memory: launch.c sees to that. Else gcc would check pairs of them while it runs,
   and give up vectors where there are more than ten pairs. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif

typedef float float32;
typedef double float64;
typedef uint16_t bfloat16;
typedef uint16_t float16;

static inline uint32_t bits_of(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
static inline float float_of(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }

static inline float load_float32(float32 x) { return x; }
static inline float32 store_float32(float x) { return x; }
static inline double load_float64(float64 x) { return x; }
static inline float64 store_float64(double x) { return x; }

static inline float load_bfloat16(bfloat16 x) { return float_of((uint32_t)x << 16); }

/* Round to nearest even; a NaN stays one. */
static inline bfloat16 store_bfloat16(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  return (bfloat16)(x == x ? rounded : 0x7fc0);
}

/* Half precision without branches, so that it vectorises on any processor. The exponent is re-biased by a product with
   a power of two, which also makes the subnormal numbers right. */
static inline float load_float16(float16 h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = (uint32_t)(h & 0x7fff) << 13;
  const float value = float_of(magnitude) * 0x1p112f;
  const uint32_t special = magnitude | 0x7f800000;
  return float_of(sign | (magnitude >= 0x0f800000 ? special : bits_of(value)));
}

static inline float16 store_float16(float x) {
  const uint32_t u = bits_of(x), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
  const uint32_t normal = (magnitude - 0x38000000 + 0x0fff + ((magnitude >> 13) & 1)) >> 13;
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000;
  const uint32_t finite = magnitude < 0x38800000 ? subnormal : normal;
  const uint32_t special = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
  return (float16)(sign | (magnitude >= 0x477ff000 ? special : finite));
}
