// Translate the events of check.npz by an exported student with ONNX Runtime's C interface.
//
//   c++ -std=c++17 -O2 -I <headers> translate_events.cpp <libonnxruntime.so> -o translate_events
//   ./translate_events <folder of the export>
//
// From energies to energies by three graphs: encode, student, decode. Every stage is compared with
// what torch made of the same events and random numbers. Other events take uniform numbers (and
// normal ones, if the student draws noise) of any generator.
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
using Named = std::map<std::string, Values>;
template <class T> T at(const std::string& s, size_t i) { T v; std::memcpy(&v, &s[i], sizeof v); return v; }
Named read_npz(const std::string& path) {  // stored, as numpy.savez does
  std::ifstream file(path, std::ios::binary);
  if (!file) { std::cerr << "cannot read " << path << "\n"; std::exit(2); }
  const std::string zip{std::istreambuf_iterator<char>(file), {}};
  Named found;
  for (size_t i = 0; at<uint32_t>(zip, i) == 0x04034b50;) {
    const size_t n_name = at<uint16_t>(zip, i + 26), n_extra = at<uint16_t>(zip, i + 28);
    uint64_t size = at<uint32_t>(zip, i + 18);
    if (size == 0xffffffff) size = at<uint64_t>(zip, i + 30 + n_name + 12);  // ZIP64
    const size_t npy = i + 30 + n_name + n_extra, n_head = at<uint16_t>(zip, npy + 8);
    const std::string head = zip.substr(npy + 10, n_head);
    const size_t data = npy + 10 + n_head, open = head.find('('), close = head.find(')');
    Values& values = found[zip.substr(i + 30, n_name - 4)];
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
const OrtApi& api = *OrtGetApiBase()->GetApi(ORT_API_VERSION);
void ok(OrtStatus* s) { if (s) { std::cerr << api.GetErrorMessage(s) << "\n"; std::exit(2); } }
struct Graph {
  OrtSession* session; OrtMemoryInfo* memory;  // live as long as the program
  Graph(OrtEnv* env, const std::string& path) {
    OrtSessionOptions* options;
    ok(api.CreateSessionOptions(&options)); ok(api.SetIntraOpNumThreads(options, 1));
    ok(api.CreateSession(env, path.c_str(), options, &session));
    ok(api.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  }
  // As many of the inputs as the graph has: the last is noise, which not every student draws.
  void run(std::vector<const char*> inputs, std::vector<const char*> outputs, Named& known) {
    size_t n; ok(api.SessionGetInputCount(session, &n));
    std::vector<OrtValue*> in(n), out(outputs.size());
    for (size_t k = 0; k < n; ++k) {
      Values& fed = known[inputs[k]];
      ok(api.CreateTensorWithDataAsOrtValue(memory, fed.data.data(), 4 * fed.data.size(),
          fed.shape.data(), fed.shape.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &in[k]));
    }
    ok(api.Run(session, nullptr, inputs.data(), in.data(), n, outputs.data(), out.size(), out.data()));
    for (size_t k = 0; k < out.size(); ++k) {
      void* first; ok(api.GetTensorMutableData(out[k], &first));
      Values& found = known[outputs[k]];
      OrtTensorTypeAndShapeInfo* info; ok(api.GetTensorTypeAndShape(out[k], &info));
      size_t size; ok(api.GetTensorShapeElementCount(info, &size));
      api.ReleaseTensorTypeAndShapeInfo(info);
      found = {known["energy"].shape, {(float*)first, (float*)first + size}};
    }
    for (auto* values : {&in, &out}) for (OrtValue* value : *values) api.ReleaseValue(value);
  }
};
float worst(const Array& a, const Array& b) {
  float most = 0;  // or NaN, where one of the differences is
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i)
    most += std::fdim(std::abs(a.at(i) - b.at(i)), most);
  return most;
}
int main(int, char** arguments) {
  const std::string folder = arguments[1];
  Named expected = read_npz(folder + "/check.npz"), known = expected;
  OrtEnv* env; ok(api.CreateEnv(ORT_LOGGING_LEVEL_WARNING, "pileupgen", &env));
  Graph(env, folder + "/encode.onnx").run({"energy", "mu", "uniform"}, {"scores"}, known);
  const float off_encoded = worst(known["scores"].data, expected["encoded"].data);
  Graph(env, folder + "/student.onnx").run({"scores", "mu", "noise"}, {"translated", "log_ratio"}, known);
  const float off = worst(known["translated"].data, expected["scores"].data);
  const float off_ratio = worst(known["log_ratio"].data, expected["log_ratio"].data);
  Graph(env, folder + "/decode.onnx").run({"translated", "scores", "mu"}, {"result"}, known);
  const Array energy = known["result"].data, wanted = expected["translated"].data;
  size_t n_off = 0;  // cells on the edge between a hit and none
  for (size_t i = 0; i < wanted.size(); ++i) n_off += !(std::abs(energy.at(i) - wanted[i]) <= 1e-3f * wanted[i]);
  std::cout << known["mu"].data.size() << " events: encoded scores off by " << off_encoded
            << ", translated ones by " << off << ", ln r by " << off_ratio << "; "
            << n_off << " of " << wanted.size() << " energies differ\n";
  return std::max({off_encoded, off, off_ratio}) <= 1e-4f && n_off <= wanted.size() / 1000 ? 0 : 1;
}
