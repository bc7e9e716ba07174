/* SPDX-License-Identifier: MIT */
/* sha256.c: the vectors of NIST, any split, and the unique key. */
#include "unit.h"

static void hash_is(const void *data, size_t n, const char *expect)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t out[32];
    char hex[65] = "";
    nq_sha256 s;

    nq_sha256_init(&s);
    nq_sha256_add(&s, data, n);
    nq_sha256_end(&s, out);
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[out[i] >> 4];
        hex[2 * i + 1] = digits[out[i] & 15];
    }
    ck_assert_str_eq(hex, expect);
}

START_TEST(nist)
{
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const char long_text[] = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                                    "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";
    char *million = malloc(1000000);

    hash_is("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_is(NULL, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_is("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_is(two_blocks, 56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    hash_is(long_text, 112, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    memset(million, 'a', 1000000);
    hash_is(million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}
END_TEST

/* SHA-256 of n zero bytes around the padding's edges (FIPS 180 "additional" vectors). */
START_TEST(padding)
{
    static const uint8_t zeros[64] = {0};

    hash_is("\xbd", 1, "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
    hash_is("\xc9\x8c\x8e\x55", 4, "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504");
    hash_is(zeros, 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
    hash_is(zeros, 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
    hash_is(zeros, 57, "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785");
    hash_is(zeros, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}
END_TEST

START_TEST(any_split)
{
    uint64_t seed = unit_seed();
    uint8_t data[1000], whole[32], split[32];
    nq_sha256 s;

    for (int round = 0; round < 500; round++) {
        size_t n = (size_t)(unit_next(&seed) % (sizeof data + 1)), at = 0;
        for (size_t i = 0; i < n; i++)
            data[i] = (uint8_t)unit_next(&seed);
        nq_sha256_init(&s);
        nq_sha256_add(&s, data, n);
        nq_sha256_end(&s, whole);
        nq_sha256_init(&s);
        while (at < n) {
            size_t take = (size_t)(unit_next(&seed) % 150);
            take = take > n - at ? n - at : take;
            nq_sha256_add(&s, data + at, take);
            at += take;
        }
        nq_sha256_end(&s, split);
        ck_assert_mem_eq(whole, split, 32);
    }
}
END_TEST

/* The vectors above went by whichever way this CPU has; both must agree on any blocks and state. */
START_TEST(portable_and_cpu)
{
    uint64_t seed = unit_seed();
    nq_sha256_blocks *const cpu = nq_sha256_cpu();
    uint8_t data[64 * 9 + 1];
    uint32_t one[8], other[8];

    if (!cpu)
        return;
    for (int round = 0; round < 2000; round++) {
        const size_t n = (size_t)(unit_next(&seed) % 10), shift = (size_t)(unit_next(&seed) % 2);
        for (size_t i = 0; i < sizeof data; i++)
            data[i] = (uint8_t)unit_next(&seed);
        for (size_t i = 0; i < 8; i++)
            one[i] = other[i] = (uint32_t)unit_next(&seed);
        nq_sha256_portable(one, data + shift, n);
        cpu(other, data + shift, n);
        ck_assert_mem_eq(one, other, sizeof one);
    }
}
END_TEST

START_TEST(unique_key)
{
    uint8_t key[32], other[32];
    nq_sha256 s;

    nq_unique_hash(key, "email", "{\"to\":1}", 8);
    nq_sha256_init(&s);
    nq_sha256_add(&s, "email\0{\"to\":1}", 14);
    nq_sha256_end(&s, other);
    ck_assert_mem_eq(key, other, 32);
    nq_unique_hash(other, "emai", "l{\"to\":1}", 9);
    ck_assert_mem_ne(key, other, 32);
    nq_unique_hash(other, "email{\"to\":1}", NULL, 0);
    ck_assert_mem_ne(key, other, 32);
    nq_unique_hash(key, "a", "\0", 1);
    nq_unique_hash(other, "a", "", 0);
    ck_assert_mem_ne(key, other, 32);
}
END_TEST

UNIT_MAIN("sha256", nist, padding, any_split, portable_and_cpu, unique_key)
