/* clones.h - functions that are compiled for several instruction sets, of which the loader takes the best. */
#ifndef METEORS_C_CLONES_H
#define METEORS_C_CLONES_H

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define CLONES __attribute__((target_clones("avx512f", "avx2,fma", "default")))
/* For functions that write bytes: those are only in a later part of AVX-512. */
#define CLONES_FOR_BYTES __attribute__((target_clones("avx2,fma", "default")))
#else
#define CLONES
#define CLONES_FOR_BYTES
#endif

#if defined(__GNUC__)
#define INSIDE inline __attribute__((always_inline)) /* compiled for the instruction set of who calls it */
#else
#define INSIDE inline
#endif

#endif
