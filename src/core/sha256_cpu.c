/* SPDX-License-Identifier: MIT */
/* SHA-256 by the CPU's own instructions (x86 SHA, ARMv8 SHA2), where it has them: five to eight times as
 * fast. */
#include "core.h"

/* Each function below is compiled for a CPU that may not be the one at hand; nq_sha256_cpu asks before it
 * gives one out. The order of the words and of the rounds is that of the vendors' papers: Intel, "New
 * Instructions Supporting the Secure Hash Algorithm", 2013; ARM, "Architecture Reference Manual", SHA256H. */

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>

static bool sha256_cpu_has(void)
{
    unsigned a, b, c, d;
    const unsigned ssse3 = 1U << 9, sse41 = 1U << 19, sha = 1U << 29;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (ssse3 | sse41)) != (ssse3 | sse41))
        return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & sha);
}

__attribute__((target("sha,sse4.1,ssse3"))) static void sha256_cpu_blocks(uint32_t h[8], const uint8_t *p,
                                                                          size_t n)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    /* The instructions want the state as (a b e f) and (c d g h), highest word first. */
    const __m128i dcba = _mm_shuffle_epi32(_mm_loadu_si128((const void *)h), 0xb1);
    const __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const void *)(h + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(dcba, hgfe, 8), cdgh = _mm_blend_epi16(hgfe, dcba, 0xf0);
    for (; n > 0; n--, p += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
        for (size_t i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(p + 16 * i)), swap);
        for (size_t i = 0; i < 16; i++) {
            const __m128i k = _mm_loadu_si128((const void *)(nq_sha256_k + 4 * i));
            const __m128i wk = _mm_add_epi32(w[0], k);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
            /* The four words of the message that come four rounds of four later; of no use in the last ones.
             */
            const __m128i next =
                _mm_add_epi32(_mm_sha256msg1_epu32(w[0], w[1]), _mm_alignr_epi8(w[3], w[2], 4));
            w[0] = w[1];
            w[1] = w[2];
            w[2] = w[3];
            w[3] = _mm_sha256msg2_epu32(next, w[2]);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((void *)h, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((void *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}

/* clang's arm_neon.h declares these instructions only where the whole file is compiled for them
 * (-march=...+sha2). */
#elif defined(__aarch64__) && defined(__linux__) && defined(__GNUC__) && !defined(__AARCH64EB__) &&          \
    (!defined(__clang__) || defined(__ARM_FEATURE_SHA2))
#include <arm_neon.h>
#include <sys/auxv.h>

static bool sha256_cpu_has(void)
{
    const unsigned long hwcap_sha2 = 1UL << 6; /* HWCAP_SHA2 of the kernel's asm/hwcap.h */
    return getauxval(AT_HWCAP) & hwcap_sha2;
}

#ifndef __clang__
__attribute__((target("+crypto")))
#endif
static void
sha256_cpu_blocks(uint32_t h[8], const uint8_t *p, size_t n)
{
    uint32x4_t abcd = vld1q_u32(h), efgh = vld1q_u32(h + 4);
    for (; n > 0; n--, p += 64) {
        const uint32x4_t abcd_before = abcd, efgh_before = efgh;
        uint32x4_t w[4];
        for (size_t i = 0; i < 4; i++)
            w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p + 16 * i)));
        for (size_t i = 0; i < 16; i++) {
            const uint32x4_t wk = vaddq_u32(w[0], vld1q_u32(nq_sha256_k + 4 * i)), abcd_now = abcd;
            abcd = vsha256hq_u32(abcd, efgh, wk);
            efgh = vsha256h2q_u32(efgh, abcd_now, wk);
            /* The four words of the message that come four rounds of four later; of no use in the last ones.
             */
            const uint32x4_t next = vsha256su1q_u32(vsha256su0q_u32(w[0], w[1]), w[2], w[3]);
            w[0] = w[1];
            w[1] = w[2];
            w[2] = w[3];
            w[3] = next;
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(h, abcd);
    vst1q_u32(h + 4, efgh);
}

#else
static bool sha256_cpu_has(void)
{
    return false;
}

static void sha256_cpu_blocks(uint32_t h[8], const uint8_t *p, size_t n)
{
    (void)h;
    (void)p;
    (void)n;
}
#endif

nq_sha256_blocks *nq_sha256_cpu(void)
{
    return sha256_cpu_has() ? sha256_cpu_blocks : NULL;
}
