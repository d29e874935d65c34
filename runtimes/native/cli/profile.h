// Timed runs, written in the schema of vlmp-profile (runtimes/profile/profile.schema.json).
#pragma once

#include <string>
#include <vector>

#include "options.h"

namespace vlmp {

// Loads in fresh processes, then times first turns, then traces operators where an ETDump is wanted. Prints medians on
// stderr. arguments: the command line, for the record. Throws Error as the session does.
void profile(const Options& options, const std::vector<std::string>& arguments);

}  // namespace vlmp
