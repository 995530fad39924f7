// Passes over attention weights that plain torch makes one by one, in one pass each.
//
// Plain loops: the compiler makes vectors of them, for AVX-512, for AVX2 and for any processor, and the
// loader takes what the processor has. Called through ctypes with pointers, so that one build serves
// every version of torch; strides count floats, and the last axis is dense.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EVERY_PROCESSOR
#endif
#define INLINE static inline __attribute__((always_inline))

constexpr int HOP = 16, FRAME = 32, BINS = 17, WIDE = 16;
constexpr int BYTES = 34, ONE = 132, OCTAVE = 6;  // of a state in codes, see codes.py
constexpr float MEANS = 1023.0f, WEIGHTS = 63.0f;

// e to the power of x, for x from -87 to 0, to 2 units in the last place; below it is about 1e-38.
INLINE float exponential(float x) {
  x = x < -87.0f ? -87.0f : x;
  const int power = static_cast<int>(x * 1.44269504f - 0.5f);
  float rest = x - power * 0.693359375f;
  rest += power * 2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.0f;
  const int32_t bits = (power + 127) << 23;
  float scale;
  std::memcpy(&scale, &bits, 4);
  return sum * scale;
}

// Softmax of the first `seen` of `slots` numbers in their place, zeros behind; a part of it is added.
EVERY_PROCESSOR void softmax_row(float* row, int64_t seen, int64_t slots, float* mean, float share, bool first) {
  float top = row[0];
  int32_t largest = 0;  // the bits of what is no number are above those of all numbers
  for (int64_t j = 0; j < seen; j++) {
    int32_t bits;
    std::memcpy(&bits, row + j, 4);
    bits &= 0x7fffffff;
    largest = bits > largest ? bits : largest;
    top = row[j] > top ? row[j] : top;
  }
  if (largest >= 0x7f800000) {
    std::fill(row, row + seen, NAN);
    std::fill(mean, mean + seen, NAN);
    if (first) std::fill(mean + seen, mean + slots, 0.0f);
    std::fill(row + seen, row + slots, 0.0f);
    return;
  }
  float sum = 0.0f;
  for (int64_t j = 0; j < seen; j++) {
    const float spent = exponential(row[j] - top);
    row[j] = spent;
    sum += spent;
  }
  const float scale = 1.0f / sum;
  if (first) {
    for (int64_t j = 0; j < seen; j++) {
      const float weight = row[j] * scale;
      row[j] = weight;
      mean[j] = weight * share;
    }
    std::fill(mean + seen, mean + slots, 0.0f);
  } else {
    for (int64_t j = 0; j < seen; j++) {
      const float weight = row[j] * scale;
      row[j] = weight;
      mean[j] += weight * share;
    }
  }
  std::fill(row + seen, row + slots, 0.0f);
}

struct Tables {
  float window[FRAME], cosine[FRAME], sine[FRAME];
  Tables() {
    for (int i = 0; i < FRAME; i++) {
      const double angle = 2.0 * M_PI * i / FRAME;
      window[i] = static_cast<float>(0.5 - 0.5 * std::cos(angle));
      cosine[i] = static_cast<float>(std::cos(angle));
      sine[i] = static_cast<float>(std::sin(angle));
    }
  }
};
static const Tables TABLES;

// 16 numbers: one register of AVX-512, or several smaller ones.
typedef float Wide __attribute__((vector_size(WIDE * sizeof(float))));

INLINE Wide take(const float* from, int count) {
  Wide found = {};
  std::memcpy(&found, from, count * sizeof(float));
  return found;
}

// Mix the size of a complex number into a mean.
INLINE void mix(Wide re, Wide im, float* held, int count, float fresh) {
  Wide size = re * re + im * im;
  for (int j = 0; j < WIDE; j++) size[j] = std::sqrt(size[j]);
  Wide mean = take(held, count);
  mean += fresh * (size - mean);
  std::memcpy(held, &mean, count * sizeof(float));
}

// Half of the bins of one windowed frame of up to 16 slots, mixed into their means: the even ones (kind 0) or the odd
// ones. The symmetries of the transform leave an eighth of its products: x(t) with x(32 - t), then t with 16 - t, and
// bin b with 16 - b, which differ in the signs of odd t.
template <int KIND>
INLINE void half_of_bins(const Wide* even, const Wide* odd, float* means, int64_t stride, int count, float fresh) {
  Wide real[9], imaginary[9];
  real[0] = KIND ? -even[HOP] : even[HOP];
  real[8] = even[8];
  imaginary[8] = odd[8];
#pragma GCC unroll 8
  for (int t = 1; t < 8; t++) {
    real[t] = KIND ? even[t] - even[HOP - t] : even[t] + even[HOP - t];
    imaginary[t] = KIND ? odd[t] + odd[HOP - t] : odd[t] - odd[HOP - t];
  }
#pragma GCC unroll 8
  for (int bin = KIND; bin <= 8; bin += 2) {
    Wide re[2] = {real[0], {}}, im[2] = {};
#pragma GCC unroll 8
    for (int t = 1; t <= 8; t++) {
      const int at = (bin * t) & 31;
      re[t & 1] += TABLES.cosine[at] * real[t];
      im[t & 1] += TABLES.sine[at] * imaginary[t];
    }
    mix(re[0] + re[1], im[0] + im[1], means + bin * stride, count, fresh);
    if (bin < 8) mix(re[0] - re[1], im[0] - im[1], means + (HOP - bin) * stride, count, fresh);
  }
}

INLINE void frame(const float* before, int64_t before_stride, const float* now, int64_t now_stride, float* means,
                  int64_t means_stride, int count, float fresh) {
  Wide even[HOP + 1], odd[HOP];
#pragma GCC unroll 16
  for (int t = 1; t < HOP; t++) {
    const Wide old = take(before + t * before_stride, count);
    const Wide newer = take(now + (HOP - t) * now_stride, count);
    even[t] = TABLES.window[t] * (old + newer);
    odd[t] = TABLES.window[t] * (old - newer);
  }
  even[HOP] = take(now, count);  // the window is 1 there, and 0 at the beginning
  half_of_bins<0>(even, odd, means, means_stride, count, fresh);
  half_of_bins<1>(even, odd, means, means_stride, count, fresh);
}

EVERY_PROCESSOR void frames(const float* signal, int64_t stride, int64_t queries, int64_t slots, float* means,
                            float* last, int64_t held_stride, float fresh) {
  for (int64_t start = 0; start < slots; start += WIDE) {
    const int count = static_cast<int>(std::min<int64_t>(WIDE, slots - start));
    for (int64_t query = 0; query < queries; query += HOP) {
      const float* now = signal + query * stride + start;
      const float* before = query ? now - HOP * stride : last + start;
      const int64_t before_stride = query ? stride : held_stride;
      if (count == WIDE)
        frame(before, before_stride, now, stride, means + start, held_stride, WIDE, fresh);
      else
        frame(before, before_stride, now, stride, means + start, held_stride, count, fresh);
    }
    for (int t = 0; t < HOP; t++)
      std::memcpy(last + t * held_stride + start, signal + (queries - HOP + t) * stride + start, count * sizeof(float));
  }
}

// Sizes that the codes of a largest weight stand for, and what a mantissa must be above for each further code.
struct Sizes {
  float size[256];
  int32_t above[OCTAVE];
  Sizes() {
    for (int code = 0; code < 256; code++) size[code] = static_cast<float>(std::exp2((code - ONE) / double(OCTAVE)));
    for (int i = 0; i < OCTAVE; i++) {
      const float least = static_cast<float>(std::exp2(i / double(OCTAVE)));
      std::memcpy(above + i, &least, 4);
      above[i] &= 0x7fffff;
    }
  }
};
static const Sizes SIZES;

typedef int32_t WideBits __attribute__((vector_size(WIDE * sizeof(int32_t))));
typedef uint8_t WideBytes __attribute__((vector_size(WIDE)));

INLINE WideBits widened(WideBytes bytes) { return __builtin_convertvector(bytes, WideBits); }
INLINE WideBytes narrowed(WideBits bits) { return __builtin_convertvector(bits, WideBytes); }

// Bytes (34, 16) of up to 16 slots of codes (slot, 34), and the other way round.
INLINE void turn_in(const uint8_t* codes, int count, WideBytes* bytes) {
  uint8_t* to = reinterpret_cast<uint8_t*>(bytes);
  for (int j = 0; j < count; j++)
    for (int i = 0; i < BYTES; i++) to[i * WIDE + j] = codes[j * BYTES + i];
}

INLINE void turn_out(const WideBytes* bytes, int count, uint8_t* codes) {
  const uint8_t* from = reinterpret_cast<const uint8_t*>(bytes);
  for (int j = 0; j < count; j++)
    for (int i = 0; i < BYTES; i++) codes[j * BYTES + i] = from[i * WIDE + j];
}

INLINE Wide mean_of(WideBytes high, WideBits low, float middle, bool wide) {
  const Wide code = __builtin_convertvector(4 * widened(high) + low, Wide);
  const Wide share = code / (MEANS - code);
  return (wide ? share * share : share) * middle;
}

// Lower bits of the means of the highest two bins are beside the turn.
INLINE WideBits low_of(const WideBytes* bytes, int bin) {
  if (bin < HOP - 1) return widened(bytes[BINS + bin]) >> 6;
  return (widened(bytes[32]) >> (bin == HOP ? 0 : 2)) & 3;
}

// Means (slot, 17) of codes (slot, 34).
EVERY_PROCESSOR void read_means(const uint8_t* codes, int64_t slots, const float* middles, bool wide, float* means) {
  for (int64_t start = 0; start < slots; start += WIDE) {
    const int count = static_cast<int>(std::min<int64_t>(WIDE, slots - start));
    WideBytes bytes[BYTES] = {};
    turn_in(codes + start * BYTES, count, bytes);
    for (int bin = 0; bin < BINS; bin++) {
      const Wide found = mean_of(bytes[bin], low_of(bytes, bin), middles[bin], wide);
      float turned[WIDE];
      std::memcpy(turned, &found, sizeof(turned));
      for (int j = 0; j < count; j++) means[(start + j) * BINS + bin] = turned[j];
    }
  }
}

// Means (17, slot), weights (16, slot) and turns (slot) of codes (slot, 34).
EVERY_PROCESSOR void open_codes(const uint8_t* codes, int64_t slots, const float* middles, const float* window, bool wide,
                                float* means, float* weights, uint8_t* turns) {
  for (int64_t start = 0; start < slots; start += WIDE) {
    const int count = static_cast<int>(std::min<int64_t>(WIDE, slots - start));
    WideBytes bytes[BYTES] = {};
    turn_in(codes + start * BYTES, count, bytes);
    for (int bin = 0; bin < BINS; bin++) {
      const Wide found = mean_of(bytes[bin], low_of(bytes, bin), middles[bin], wide);
      std::memcpy(means + bin * slots + start, &found, count * sizeof(float));
    }
    Wide largest;
    for (int j = 0; j < WIDE; j++) largest[j] = SIZES.size[bytes[33][j]] * (1.0f / WEIGHTS);
    std::fill(weights + start, weights + start + count, 0.0f);
    for (int t = 1; t < HOP; t++) {
      const Wide found = __builtin_convertvector(widened(bytes[HOP + t]) & 63, Wide) * largest * (1.0f / window[t - 1]);
      std::memcpy(weights + t * slots + start, &found, count * sizeof(float));
    }
    const WideBytes turn = bytes[32] >> 4;
    std::memcpy(turns + start, &turn, count);
  }
}

// The code of a largest weight: sixths of octaves, rounded up.
INLINE WideBits code_of(Wide largest) {
  WideBits bits;
  std::memcpy(&bits, &largest, sizeof(bits));
  WideBits code = ONE + OCTAVE * ((bits >> 23) - 127);
  for (int i = 0; i < OCTAVE; i++) code -= (bits & 0x7fffff) > SIZES.above[i];  // a truth is -1
  code = code < 0 ? code * 0 : code;
  return code > 255 ? code * 0 + 255 : code;
}

// The other way round. `added` (16, 17): what is added to a mean's code in each turn.
EVERY_PROCESSOR void close_codes(const float* means, const float* weights, const uint8_t* turns, int64_t slots,
                                 const float* middles, const float* window, const float* added, bool wide,
                                 uint8_t* codes) {
  for (int64_t start = 0; start < slots; start += WIDE) {
    const int count = static_cast<int>(std::min<int64_t>(WIDE, slots - start));
    WideBytes bytes[BYTES], turn = {};
    Wide windowed[HOP], largest = {}, inverse;
    std::memcpy(&turn, turns + start, count);
    turn = (turn + 1) & 15;
    bytes[32] = turn << 4;
    for (int t = 1; t < HOP; t++) {
      windowed[t] = take(weights + t * slots + start, count) * window[t - 1];
      largest = windowed[t] > largest ? windowed[t] : largest;
    }
    bytes[33] = narrowed(code_of(largest));
    for (int j = 0; j < WIDE; j++) inverse[j] = WEIGHTS / SIZES.size[bytes[33][j]];
    for (int bin = 0; bin < BINS; bin++) {
      Wide share = take(means + bin * slots + start, count) / middles[bin], dither;
      for (int j = 0; j < WIDE; j++) dither[j] = added[turn[j] * BINS + bin];
      if (wide)
        for (int j = 0; j < WIDE; j++) share[j] = std::sqrt(share[j]);
      Wide exact = share / (share + 1.0f) * MEANS + dither;
      exact = exact < MEANS - 1.0f ? exact : exact * 0.0f + (MEANS - 1.0f);
      const WideBits code = __builtin_convertvector(exact, WideBits);
      bytes[bin] = narrowed(code >> 2);
      if (bin >= HOP - 1) {
        bytes[32] |= narrowed((code & 3) << (bin == HOP ? 0 : 2));
        continue;
      }
      Wide spent = windowed[bin + 1] * inverse;
      for (int j = 0; j < WIDE; j++) spent[j] = std::nearbyint(spent[j]);
      spent = spent < WEIGHTS ? spent : spent * 0.0f + WEIGHTS;
      bytes[BINS + bin] = narrowed(((code & 3) << 6) | __builtin_convertvector(spent, WideBits));
    }
    turn_out(bytes, count, codes + start * BYTES);
  }
}

// Do `work(i)` for i from 0 to count - 1.
template <typename Work>
static void share_out(int64_t count, int64_t threads, const Work& work) {
  threads = std::max<int64_t>(1, std::min(threads, count));
  auto part = [&](int64_t thread) {
    for (int64_t i = thread; i < count; i += threads) work(i);
  };
  std::vector<std::thread> others;
  for (int64_t thread = 1; thread < threads; thread++) others.emplace_back(part, thread);
  part(0);
  for (auto& other : others) other.join();
}

extern "C" {

// products (head, group, query, slot): softmax over the slots that each query sees, in their place. Query i sees all
// but the last `queries` - 1 - i. means (head, query, slot): mean over the group.
void namm_softmax(float* products, float* means, int64_t heads, int64_t group, int64_t queries, int64_t slots,
                  int64_t threads) {
  share_out(heads * queries, threads, [&](int64_t i) {
    const int64_t head = i / queries, query = i % queries;
    for (int64_t g = 0; g < group; g++)
      softmax_row(products + ((head * group + g) * queries + query) * slots, slots - queries + 1 + query, slots,
                  means + i * slots, 1.0f / group, g == 0);
  });
}

// signal (head, query, slot), means (head, 17, slot), last (head, 16, slot): fold whole hops of queries.
void namm_frames(const float* signal, int64_t head_stride, int64_t stride, int64_t heads, int64_t queries, int64_t slots,
                 float* means, float* last, int64_t held_stride, float fresh, int64_t threads) {
  share_out(heads, threads, [&](int64_t head) {
    frames(signal + head * head_stride, stride, queries, slots, means + head * BINS * held_stride,
           last + head * HOP * held_stride, held_stride, fresh);
  });
}

// codes (head, slot, 34), means (head, slot, 17).
void namm_read_means(const uint8_t* codes, int64_t heads, int64_t slots, const float* middles, int64_t wide, float* means,
                     int64_t threads) {
  share_out(heads, threads, [&](int64_t head) {
    read_means(codes + head * slots * BYTES, slots, middles, wide, means + head * slots * BINS);
  });
}

// codes (head, slot, 34), means (head, 17, slot), weights (head, 16, slot), turns (head, slot).
void namm_open_codes(const uint8_t* codes, int64_t heads, int64_t slots, const float* middles, const float* window,
                     int64_t wide, float* means, float* weights, uint8_t* turns, int64_t threads) {
  share_out(heads, threads, [&](int64_t head) {
    open_codes(codes + head * slots * BYTES, slots, middles, window, wide, means + head * slots * BINS,
               weights + head * slots * HOP, turns + head * slots);
  });
}

void namm_close_codes(const float* means, const float* weights, const uint8_t* turns, int64_t heads, int64_t slots,
                      const float* middles, const float* window, const float* added, int64_t wide, uint8_t* codes,
                      int64_t threads) {
  share_out(heads, threads, [&](int64_t head) {
    close_codes(means + head * slots * BINS, weights + head * slots * HOP, turns + head * slots, slots, middles, window,
                added, wide, codes + head * slots * BYTES);
  });
}
}
