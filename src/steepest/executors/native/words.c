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
  static inline T lerp_##SUFFIX(T a, T b, T w) {                                                                      \
    const int is_near = fabs(w) < (T)0.5; /* as torch does; the same for all elements as a rule, so that this is one sum */\
    const T from = is_near ? a : b, weight = is_near ? w : w - 1;                                                     \
    return from + weight * (b - a);                                                                                   \
  }                                                                                                                   \
  static inline T gt_##SUFFIX(T a, T b) { return a > b; }                                                             \
  static inline T ge_##SUFFIX(T a, T b) { return a >= b; }                                                            \
  static inline T lt_##SUFFIX(T a, T b) { return a < b; }                                                             \
  static inline T le_##SUFFIX(T a, T b) { return a <= b; }                                                            \
  static inline T eq_##SUFFIX(T a, T b) { return a == b; }                                                            \
  static inline T ne_##SUFFIX(T a, T b) { return a != b; }

WORDS(float, f)
WORDS(double, d)

static inline uint32_t bits_of(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
static inline float float_of(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }
static inline uint64_t bits_of_double(double x) { uint64_t u; memcpy(&u, &x, 8); return u; }
static inline double double_of(uint64_t u) { double x; memcpy(&x, &u, 8); return x; }

/* Functions of floats without branches or calls, so that loops over them become vectors. Most are computed in double: the
   one rounding to float, at the end, makes overflow and subnormal results right. Polynomials are the best of their degree
   in relative error, and sums of short ones rather than nested, since a loop waits for its longest chain of operations. */

/* 2 ** x for |x| <= 1000. A sum with 1.5 * 2^52 has the nearest integer in its last bits. */
static inline double two_to(double x) {
  const double shifted = x + 0x1.8p52, r = x - (shifted - 0x1.8p52), r2 = r * r;
  const double low = 0x1.0000000261512p+0 + 0x1.62e430c7e92c6p-1 * r; /* degree 6 in |r| <= 1/2, error 1.9e-9 */
  const double mid = 0x1.ebfbdadcb0618p-3 + 0x1.c6aed4b94ae99p-5 * r;
  const double high = 0x1.3b2dbbc0fba7fp-7 + 0x1.5f456a8cf39a0p-10 * r + 0x1.41d3337c22e99p-13 * r2;
  return (low + r2 * mid + r2 * r2 * high) * double_of((bits_of_double(shifted) + 1023) << 52);
}

/* The logarithm to base 2 of a float x = 2 ** k * m, with m between the roots of 1/2 and 2. As a double none is subnormal. */
static inline double log_two(double x) {
  const uint64_t root_half = 0x3fe6a09e667f3bcd, fraction = 0x000fffffffffffff;
  const uint64_t u = bits_of_double(x) - root_half + 0x4000000000000000;
  const double k = double_of(0x4330000000000000 | u >> 52) - (0x1p52 + 1024);
  const double m = double_of((u & fraction) + root_half), s = (m - 1) / (m + 1), w = s * s;
  const double low = 0x1.71547652bedf3p+1 + 0x1.ec709d12ceec0p-1 * w; /* degree 4 in w <= 0.0295, error 4.3e-12 */
  const double mid = 0x1.27777fe90dbb7p-1 + 0x1.a58d887f07021p-2 * w, w2 = w * w;
  const double sum = low + w2 * (mid + 0x1.5ce85a64385cbp-2 * w2);
  const double positive = x == INFINITY ? x : k + s * sum, other = x == 0 ? -INFINITY : NAN;
  return x > 0 ? positive : other;
}

/* The angle of (x, y): the arctangent of the smaller size over the larger one, reflected to its place. All is in float: with
   angles in double a step would wait for them, and no longer for memory. Sizes are compared as integers, among which
   NaN is the largest; 0 / 0 becomes 0 / least, and inf / inf becomes most / most. */
static inline float angle_of(float y, float x) {
  const int32_t a = bits_of(y) & 0x7fffffff, b = bits_of(x) & 0x7fffffff;
  const int32_t low = a < b ? a : b, larger = a < b ? b : a, high = larger > 1 ? larger : 1;
  const uint32_t are_infinite = ((uint32_t)low + 0x00800000) >> 31, left = (uint32_t)((int32_t)bits_of(x) >> 31);
  const float r = float_of(low - are_infinite) / float_of(high - are_infinite), w = r * r, w2 = w * w;
  const float c01 = -0x1.5554dcp-2f + 0x1.9978f4p-3f * w, c23 = -0x1.230adcp-3f + 0x1.b4e12ap-4f * w;
  const float c45 = -0x1.3556b6p-4f + 0x1.61fdd8p-5f * w, c67 = -0x1.0c2c12p-6f + 0x1.7ed22cp-9f * w;
  const float octant = r + r * w * (c01 + w2 * c23 + w2 * w2 * (c45 + w2 * c67)); /* degree 8 in w, error 1.7e-8 */
  const uint32_t is_steep = a > b ? 0xffffffff : 0, half_turn = 0x40490fdb, quarter = 0x3fc90fdb;
  const float axis = float_of((quarter & is_steep) | (half_turn & left & ~is_steep)); /* from which the angle is seen */
  const float turned = float_of(bits_of(octant) ^ ((left ^ is_steep) & 0x80000000));
  return copysignf(axis + (turned - axis * 0x1.777a5cp-25f), y);
}

/* C's pow for floats. With `rooted`, as torch.pow computes a power by a number: 1/2 and -1/2 are roots, which differ from
   pow at -inf and -0. Where no power of a negative number is real, its logarithm gives NaN. What y decides is in masks of
   bits: gcc makes no vectors of a choice by a condition that all elements share. */
static inline double power_of(double x, double y, int rooted) {
  const int is_root = rooted && fabs(y) == 0.5, is_whole = floor(y) == y, is_odd = is_whole && floor(y / 2) != y / 2;
  const uint64_t sign = 0x8000000000000000, size = ~sign, all = ~(uint64_t)0;
  const uint64_t read = is_whole ? size : all, used = y == 0 ? 0 : all, kept = is_odd || is_root ? sign : 0;
  const double at_minus_infinity = is_root ? NAN : INFINITY;
  const double base = x == -INFINITY ? at_minus_infinity : double_of(bits_of_double(x) & read), log = log_two(base);
  const double exponent = double_of(bits_of_double(y * log) & used), z = log == 0 ? 0 : exponent, power = two_to(z);
  const double below = z < -200 ? 0 : power, result = z > 200 ? INFINITY : below;
  return double_of(bits_of_double(result) | (bits_of_double(x) & kept));
}

/* The cube root as pow has it: NaN for negative numbers, but not for -0 and -inf. A third of its bits, as an integer, gives
   the inverse within 3.5 %. A root of 8 bits has an exact cube, so that what it leaves of x is exact for a step of Halley's
   method. */
static inline float cube_root_f(float x) {
  const float size = fabsf(x), z = size < 0x1p-77f ? size * 0x1p48f : size;
  const float inverse = float_of(0x54a20000 - (uint32_t)(int32_t)((float)(int32_t)bits_of(z) * (1.0f / 3)));
  const float first = z * (inverse * inverse), h = 1 - first * inverse;
  const float sum = 0x1.ffff80p-1f + 0x1.5770a0p-1f * h + 0x1.1eba72p-1f * (h * h); /* |h| <= 0.103, error 1.4e-4 */
  const float y = first * sum;
  const float part = float_of((bits_of(y) + 0x8000) & 0xffff0000), cube = part * part * part, rest = z - cube;
  const float root = part + part * (1.0f / 3) * (rest / (cube + 0x1p-126f + rest * (1.0f / 3)));
  const float finite = size < 0x1p-77f ? root * 0x1p-16f : root, positive = size == INFINITY ? size : finite;
  return x < 0 && size < INFINITY ? NAN : positive;
}

static inline float sqrt_f(float x) { return sqrtf(x); }
static inline double sqrt_d(double x) { return sqrt(x); }
static inline float abs_f(float x) { return fabsf(x); }
static inline double abs_d(double x) { return fabs(x); }
static inline float log_f(float x) { return (float)(0x1.62e42fefa39efp-1 * log_two(x)); }
static inline double log_d(double x) { return log(x); }
static inline float exp_f(float x) {
  const float inside = (float)two_to(0x1.71547652b82fep+0 * x), above = x < -110 ? 0 : inside;
  return x > 110 ? INFINITY : above;
}
static inline double exp_d(double x) { return exp(x); }
static inline float atan2_f(float y, float x) { return angle_of(y, x); }
static inline double atan2_d(double y, double x) { return atan2(y, x); }
static inline float sigmoid_f(float x) {
  const float inside = 1 / (float)(1 + two_to(-0x1.71547652b82fep+0 * x)), above = x < -110 ? 0 : inside;
  return x > 110 ? 1 : above;
}
static inline double sigmoid_d(double x) { return 1 / (1 + exp(-x)); }
static inline float pow_f(float a, float b) { return (float)power_of(a, b, 0); }
static inline double pow_d(double a, double b) { return pow(a, b); }

static inline double cube_root_d(double x) { return pow(x, 1.0 / 3); }

/* A power by a number, as torch.pow computes it: by way of roots, which differ from pow at -inf and -0. */
static inline float power_f(float a, float b) { return (float)power_of(a, b, 1); }
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
