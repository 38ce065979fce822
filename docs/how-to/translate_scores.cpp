// Translate the events of check.npz by an exported student with ONNX Runtime's C interface.
//
//   c++ -std=c++17 -O2 -I <headers> translate_scores.cpp <libonnxruntime.so> -o translate_scores
//   ./translate_scores <folder of the export>
//
// From the encoded normal scores of each event to its translated scores, ln r and corrected scores,
// compared with what torch made of them. What turns energies to scores and back is in run_onnx.py.
#include <onnxruntime_c_api.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <vector>
using Array = std::vector<float>;
struct Values { std::vector<int64_t> shape; Array data; };
std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) { std::cerr << "cannot read " << path << "\n"; std::exit(2); }
  return {std::istreambuf_iterator<char>(file), {}};
}
template <class T> T at(const std::string& s, size_t i) { T v; std::memcpy(&v, &s[i], sizeof v); return v; }
std::map<std::string, Values> read_npz(const std::string& path) {  // stored, as numpy.savez does
  std::map<std::string, Values> found;
  const std::string zip = read(path);
  for (size_t i = 0; at<uint32_t>(zip, i) == 0x04034b50;) {
    const size_t n_name = at<uint16_t>(zip, i + 26), n_extra = at<uint16_t>(zip, i + 28);
    uint64_t size = at<uint32_t>(zip, i + 18);
    if (size == 0xffffffff) size = at<uint64_t>(zip, i + 30 + n_name + 12);  // ZIP64
    const size_t npy = i + 30 + n_name + n_extra, n_head = at<uint16_t>(zip, npy + 8);
    const std::string head = zip.substr(npy + 10, n_head);
    const size_t data = npy + 10 + n_head;
    Values& values = found[zip.substr(i + 30, n_name - 4)];
    const size_t open = head.find('('), close = head.find(')');
    size_t n = 1;
    for (size_t k = open; (k = head.find_first_of("0123456789", k)) < close; k = head.find(',', k)) {
      values.shape.push_back(std::stoll(head.substr(k)));
      n *= values.shape.back();
    }
    const bool is_single = head.find("<f4") != std::string::npos;
    for (size_t k = 0; k < n && (is_single || head.find("<f8") != std::string::npos); ++k)
      values.data.push_back(is_single ? at<float>(zip, data + 4 * k) : at<double>(zip, data + 8 * k));
    i = npy + size;
  }
  return found;
}
float worst(const Array& a, const Array& b) {
  float most = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}
const OrtApi& api = *OrtGetApiBase()->GetApi(ORT_API_VERSION);
void ok(OrtStatus* s) { if (s) { std::cerr << api.GetErrorMessage(s) << "\n"; std::exit(2); } }
int main(int, char** arguments) {
  const std::string folder = arguments[1], json = read(folder + "/translation.json");
  auto events = read_npz(folder + "/check.npz");
  Values source = events["encoded"];
  for (float& score : source.data) score = std::clamp(score, -5.f, 5.f);  // limits.visible
  OrtEnv* env; OrtSessionOptions* options; OrtSession* session; OrtMemoryInfo* memory;
  ok(api.CreateEnv(ORT_LOGGING_LEVEL_WARNING, "pileupgen", &env));
  ok(api.CreateSessionOptions(&options));
  ok(api.SetIntraOpNumThreads(options, 1));
  ok(api.CreateSession(env, (folder + "/student.onnx").c_str(), options, &session));
  ok(api.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  std::vector<const char*> names{"scores", "mu", "noise"}, outputs{"translated", "log_ratio"};
  std::vector<Values*> fed{&source, &events["mu"], &events["noise"]};
  size_t n_inputs; ok(api.SessionGetInputCount(session, &n_inputs));  // noise where some is drawn
  std::vector<OrtValue*> in(n_inputs), out(2);
  for (size_t k = 0; k < n_inputs; ++k)
    ok(api.CreateTensorWithDataAsOrtValue(memory, fed[k]->data.data(), 4 * fed[k]->data.size(),
        fed[k]->shape.data(), fed[k]->shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &in[k]));
  ok(api.Run(session, nullptr, names.data(), in.data(), n_inputs, outputs.data(), 2, out.data()));
  void *translated, *log_ratio;
  ok(api.GetTensorMutableData(out[0], &translated));
  ok(api.GetTensorMutableData(out[1], &log_ratio));
  auto taken = [](void* p, size_t n) { return Array((float*)p, (float*)p + n); };
  Array scores = taken(translated, source.data.size());
  const float off = worst(scores, events["scores"].data);
  const float off_ratio = worst(taken(log_ratio, source.shape[0]), events["log_ratio"].data);
  // The residual correction: by the knots of each layer and ring, then kept beyond the limits.
  const std::string raw = read(folder + "/correction.0.knots.bin");
  const size_t n_rings = source.shape[1] * source.shape[2], n_phi = source.shape[3];
  const size_t n_knots = raw.size() / 4 / n_rings;
  const double s_max = std::stod(json.substr(json.find("\"s_max\":", json.find("\"sweeps\"")) + 8));
  for (size_t i = 0; i < scores.size(); ++i) {
    const float* knots = reinterpret_cast<const float*>(raw.data()) + i / n_phi % n_rings * n_knots;
    const float inside = std::clamp(scores[i], knots[0], knots[n_knots - 1]);
    const long below = std::lower_bound(knots, knots + n_knots, inside) - knots - 1;
    const long low = std::clamp(below, 0l, long(n_knots) - 2);
    const double place = low + (inside - knots[low]) / (knots[low + 1] - knots[low]);
    const double corrected = place * 2 * s_max / (n_knots - 1) - s_max + (scores[i] - inside);
    const float own = events["encoded"].data[i], share = std::clamp(5 - std::abs(own), 0.f, 1.f);
    scores[i] = share * std::clamp(corrected, -6., 6.) + (1 - share) * own;
  }
  const float off_corrected = worst(scores, events["corrected"].data);
  std::cout << source.shape[0] << " events: scores off by " << off << ", ln r by " << off_ratio
            << ", corrected scores by " << off_corrected << "\n";
  return off <= 1e-4f && off_ratio <= 1e-4f && off_corrected <= 1e-4f ? 0 : 1;
}
