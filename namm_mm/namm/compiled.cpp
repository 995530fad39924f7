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

// Magnitudes of one windowed frame of up to 16 slots, mixed into their means. The symmetries of the
// transform leave a quarter of its products: x(t) with x(32 - t), then t with 16 - t.
INLINE void frame(const float* before, int64_t before_stride, const float* now, int64_t now_stride, float* means,
                  int64_t means_stride, int count, float fresh) {
  Wide even[HOP + 1], odd[HOP];
  for (int t = 1; t < HOP; t++) {
    const Wide old = take(before + t * before_stride, count);
    const Wide newer = take(now + (HOP - t) * now_stride, count);
    even[t] = TABLES.window[t] * (old + newer);
    odd[t] = TABLES.window[t] * (old - newer);
  }
  even[HOP] = take(now, count);  // the window is 1 there, and 0 at the beginning
  Wide real[2][9] = {}, imaginary[2][9] = {};  // of even and of odd bins
  real[0][0] = even[HOP];
  real[1][0] = -even[HOP];
  real[0][8] = even[8];
  imaginary[1][8] = odd[8];
  for (int t = 1; t < 8; t++) {
    real[0][t] = even[t] + even[HOP - t];
    real[1][t] = even[t] - even[HOP - t];
    imaginary[0][t] = odd[t] - odd[HOP - t];
    imaginary[1][t] = odd[t] + odd[HOP - t];
  }
  for (int bin = 0; bin < BINS; bin++) {
    const int kind = bin & 1;
    Wide re = real[kind][0], im = {};
    for (int t = 1; t <= 8; t++) {
      re += TABLES.cosine[(bin * t) & 31] * real[kind][t];
      im += TABLES.sine[(bin * t) & 31] * imaginary[kind][t];
    }
    Wide size = re * re + im * im;
    for (int j = 0; j < WIDE; j++) size[j] = std::sqrt(size[j]);
    float* held = means + bin * means_stride;
    Wide mean = take(held, count);
    mean += fresh * (size - mean);
    std::memcpy(held, &mean, count * sizeof(float));
  }
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
}
