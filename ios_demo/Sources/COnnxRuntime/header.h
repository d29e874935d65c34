// Nothing is linked: the library is found when the program runs.
#include <onnxruntime_c_api.h>
