#pragma once

namespace rrfast {

bool run_huge();  // whether all went well

}  // namespace rrfast
