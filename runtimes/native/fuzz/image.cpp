// Fuzz target: a photo is decoded and fitted, or refused in one line.
#include "image.h"

#include <cstdlib>

#include "error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const vlmp::ImageSpec spec{56, 84, true, {1, 2, 3}};
  try {
    const vlmp::Picture picture = vlmp::decode_picture({reinterpret_cast<const char*>(data), size}, "photo", 1 << 20);
    if (vlmp::to_pixels(picture, spec).size() != 3 * 56 * 84) std::abort();
  } catch (const vlmp::Error&) {
  }
  return 0;
}
