#include "loadgen.h"

void record(struct histogram *histogram, int64_t latency) {
    uint64_t value = latency < 0 ? 0 : (uint64_t)latency;
    unsigned index = (unsigned)value;
    if (value >> SUB_BITS) {
        unsigned shift = 63 - SUB_BITS - (unsigned)__builtin_clzll(value);
        index = ((shift + 1) << SUB_BITS) + (unsigned)((value >> shift) & ((1 << SUB_BITS) - 1));
    }
    histogram->buckets[index]++;
    histogram->count++;
    if (value > histogram->largest)
        histogram->largest = value;
}

uint64_t percentile(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)(share * (double)histogram->count), seen = 0;
    for (unsigned index = 0; index < BUCKETS; index++) {
        seen += histogram->buckets[index];
        if (seen > wanted) {
            unsigned shift = index >> SUB_BITS, low = index & ((1 << SUB_BITS) - 1);
            return shift ? ((uint64_t)(low + (1 << SUB_BITS))) << (shift - 1) : low;
        }
    }
    return histogram->largest;
}
