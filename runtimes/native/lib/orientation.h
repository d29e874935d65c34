// Which way up a photo is, by what its file tells beside the pixels.
#pragma once

#include "bytes.h"

namespace vlmp {

// From 1 to 8, as EXIF counts them; 1 is upright. As Pillow reads it: the number of the EXIF block, and where that has
// none, the first one in XMP. exif: a TIFF file behind up to two marks of kExif.
int orientation_of(Bytes exif, Bytes xmp);

inline constexpr Bytes kExif("Exif\0\0", 6);

}  // namespace vlmp
