/* SPDX-License-Identifier: MIT */
/* SHA-256 (FIPS 180-4) and the unique key. */
#include "core.h"

#include <stdatomic.h>

NQ_PRIVATE const uint32_t nq_sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t sha256_rotr(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

/* One round: instead of moving the eight words along, the caller names them in turn. */
#define SHA256_ROUND(a, b, c, d, e, f, g, h, i)                                                              \
    do {                                                                                                     \
        const uint32_t t1 = (h) + (sha256_rotr(e, 6) ^ sha256_rotr(e, 11) ^ sha256_rotr(e, 25)) +            \
                            ((g) ^ ((e) & ((f) ^ (g)))) + nq_sha256_k[i] + w[i];                             \
        (d) += t1;                                                                                           \
        (h) = t1 + (sha256_rotr(a, 2) ^ sha256_rotr(a, 13) ^ sha256_rotr(a, 22)) +                           \
              (((a) & (b)) | ((c) & ((a) | (b))));                                                           \
    } while (0)

void nq_sha256_portable(uint32_t state[8], const uint8_t *p, size_t n)
{
    for (; n > 0; n--) {
        uint32_t w[64];
        for (size_t i = 0; i < 16; i++, p += 4)
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        for (size_t i = 16; i < 64; i++) {
            const uint32_t s0 = sha256_rotr(w[i - 15], 7) ^ sha256_rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
            const uint32_t s1 = sha256_rotr(w[i - 2], 17) ^ sha256_rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (size_t i = 0; i < 64; i += 8) {
            SHA256_ROUND(a, b, c, d, e, f, g, h, i);
            SHA256_ROUND(h, a, b, c, d, e, f, g, i + 1);
            SHA256_ROUND(g, h, a, b, c, d, e, f, i + 2);
            SHA256_ROUND(f, g, h, a, b, c, d, e, i + 3);
            SHA256_ROUND(e, f, g, h, a, b, c, d, i + 4);
            SHA256_ROUND(d, e, f, g, h, a, b, c, i + 5);
            SHA256_ROUND(c, d, e, f, g, h, a, b, i + 6);
            SHA256_ROUND(b, c, d, e, f, g, h, a, i + 7);
        }
        const uint32_t sums[8] = {a, b, c, d, e, f, g, h};
        for (size_t i = 0; i < 8; i++)
            state[i] += sums[i];
    }
}

/* What the CPU can do is asked once: on a virtual machine the question costs more than hashing a small task.
 */
static nq_sha256_blocks *sha256_chosen(void)
{
    static _Atomic(nq_sha256_blocks *) chosen;
    nq_sha256_blocks *blocks = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (!blocks) {
        blocks = nq_sha256_cpu();
        blocks = blocks ? blocks : nq_sha256_portable;
        atomic_store_explicit(&chosen, blocks, memory_order_relaxed);
    }
    return blocks;
}

void nq_sha256_init(nq_sha256 *s)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, start, sizeof(start));
    s->total = 0;
}

void nq_sha256_add(nq_sha256 *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    size_t held = (size_t)(s->total % 64);

    if (n == 0)
        return;
    s->total += n;
    if (held > 0) {
        size_t take = n < 64 - held ? n : 64 - held;
        memcpy(s->block + held, p, take);
        p += take;
        n -= take;
        if (held + take < 64)
            return;
        sha256_chosen()(s->h, s->block, 1);
    }
    if (n >= 64) {
        const size_t whole = n / 64;
        sha256_chosen()(s->h, p, whole);
        p += 64 * whole;
        n %= 64;
    }
    if (n > 0)
        memcpy(s->block, p, n);
}

void nq_sha256_end(nq_sha256 *s, uint8_t out[32])
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = s->total * 8;
    size_t held = (size_t)(s->total % 64);
    uint8_t length[8];

    for (size_t i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    nq_sha256_add(s, padding, held < 56 ? 56 - held : 120 - held);
    nq_sha256_add(s, length, sizeof(length));
    for (size_t i = 0; i < 32; i++)
        out[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

void nq_unique_hash(uint8_t out[32], const char *type, const void *data, size_t n)
{
    nq_sha256 s;

    nq_sha256_init(&s);
    nq_sha256_add(&s, type, strlen(type) + 1);
    nq_sha256_add(&s, data, n);
    nq_sha256_end(&s, out);
}
