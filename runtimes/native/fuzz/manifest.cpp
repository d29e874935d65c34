// Fuzz target: a manifest is read, or refused in one line.
#include "manifest.h"

#include "error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    vlmp::parse_manifest({reinterpret_cast<const char*>(data), size}, "manifest.json");
  } catch (const vlmp::Error&) {
  }
  return 0;
}
