// The last line of a process that a crash ends. Only a program may have it: libvlmp leaves signals and handlers alone.
#pragma once

#include <string>

namespace vlmp {

// From now on a crash, and what makes ExecuTorch or C++ end the process, ends it as one line on stderr. subject: begin
// of that line. Call once.
void tell_crashes(const std::string& subject);

}  // namespace vlmp
