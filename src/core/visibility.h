/* SPDX-License-Identifier: MIT */
/* Who sees internal names that are not file-static: nobody outside the library, and nobody outside the file
 * that the amalgamation is. */
#ifndef NQ_VISIBILITY_H
#define NQ_VISIBILITY_H

#ifdef NQ_AMALGAMATION
#define NQ_PRIVATE static
#else
#define NQ_PRIVATE __attribute__((visibility("hidden")))
#endif

#endif
