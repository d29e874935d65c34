// stb_image, with the two formats that are read.
#pragma once

#include <cstdlib>

namespace vlmp {

// How large stb_image may make a buffer that it enlarges, and whether it wanted more. To be set for each picture: a PNG
// file of kilobytes can hold gigabytes, whatever its header says.
struct Growth {
  std::size_t most;
  bool exceeded;
};
inline thread_local Growth growth{};

inline void* grow(void* pointer, std::size_t size) {
  growth.exceeded = size > growth.most;
  return growth.exceeded ? nullptr : std::realloc(pointer, size);
}

}  // namespace vlmp

#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
// Zeroed: of a damaged file it reads tables that the file never filled.
#define STBI_MALLOC(size) std::calloc(1, size)
#define STBI_REALLOC(pointer, size) vlmp::grow(pointer, size)
#define STBI_FREE(pointer) std::free(pointer)
#include <stb_image.h>
