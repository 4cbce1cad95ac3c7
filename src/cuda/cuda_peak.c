/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU's ceilings: each mode of the peak kernel for about a second, with clock and power before it ends. */
#include "base/nvml.h"
#include "base/status.h"
#include "cuda/cuda_device.h"
#include "cuda/kernels/peak/peak_params.h"

#include <time.h>

/* Short launches keep a GPU that also draws a screen alive; the first ones bring clocks and power to where they stay.
 */
enum { LAUNCH_MS = 50, NUM_WARM_UPS = 6, NUM_LAUNCHES = 16, SAMPLE_MS = LAUNCH_MS * (NUM_WARM_UPS + NUM_LAUNCHES - 2) };
#define MAX_DATA_BYTES ((size_t)4 << 30)
#define MIN_DATA_BYTES ((size_t)256 << 20) /* far more than any L2 */

typedef struct peak_run {
    const pod_cuda_device *cuda;
    pod_nvml nvml;
    CUstream stream;
    CUdeviceptr data, scratch; /**< scratch: counts of every launch, then tickets */
    size_t data_bytes;
    int32_t num_stages;
} peak_run;

static const size_t counts_bytes = (NUM_WARM_UPS + NUM_LAUNCHES) * sizeof(pod_peak_counts);
static const size_t ticket_bytes = POD_PEAK_MAX_SMS * sizeof(uint32_t);

/** As many stages as let two CTAs share an SM. */
static pod_status choose_stages(peak_run *run) {
    enum { OTHER_BYTES = 2048 }; /* of a CTA: its barriers, and what the chip takes */
    int smem_bytes = 0;
    POD_CUDA_TRY(
        run->cuda,
        device_get_attribute(&smem_bytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, run->cuda->ordinal),
        "asking for the GPU's properties");
    int stages = (smem_bytes / POD_PEAK_CTAS_PER_SM - OTHER_BYTES) / POD_PEAK_CHUNK_BYTES;
    run->num_stages = stages < POD_PEAK_MAX_STAGES ? stages : POD_PEAK_MAX_STAGES;
    if (stages >= POD_PEAK_MIN_STAGES) return POD_OK;
    return pod__fail(POD_E_UNSUPPORTED, "%s has too little shared memory for the kernels that measure it",
                     run->cuda->name);
}

static pod_status take_memory(peak_run *run) {
    size_t free_bytes = 0, total_bytes = 0;
    POD_CUDA_TRY(run->cuda, mem_get_info(&free_bytes, &total_bytes), "asking for the GPU's free memory");
    size_t bytes = free_bytes / 2 < MAX_DATA_BYTES ? free_bytes / 2 : MAX_DATA_BYTES;
    if (bytes < MIN_DATA_BYTES) {
        return pod__fail(POD_E_NO_MEMORY, "the GPU has %zu bytes free; measuring it takes %zu", free_bytes,
                         2 * MIN_DATA_BYTES);
    }
    run->data_bytes = bytes / POD_PEAK_CHUNK_BYTES * POD_PEAK_CHUNK_BYTES;
    POD_CUDA_TRY(run->cuda, mem_alloc(&run->data, run->data_bytes), "taking memory to read");
    POD_CUDA_TRY(run->cuda, mem_alloc(&run->scratch, counts_bytes + ticket_bytes), "taking memory for counts");
    return POD_OK;
}

static pod_status launch(const peak_run *run, CUfunction kernel, size_t smem_bytes, void *params, const char *doing) {
    unsigned num_ctas = POD_PEAK_CTAS_PER_SM * (unsigned)run->cuda->chip.num_sms;
    void *arguments[] = {params};
    POD_CUDA_TRY(run->cuda,
                 launch_kernel(kernel, num_ctas, 1, 1, POD_PEAK_THREADS, 1, 1, (unsigned)smem_bytes, run->stream,
                               arguments, NULL),
                 doing);
    return POD_OK;
}

static pod_status set_up(peak_run *run) {
    char pci_bus[32] = "";
    const pod_cuda_device *cuda = run->cuda;
    POD_TRY(choose_stages(run));
    POD_CUDA_TRY(cuda, device_get_pci_bus_id(pci_bus, sizeof pci_bus, cuda->ordinal), "asking for the GPU's bus");
    pod__nvml_open(&run->nvml, pci_bus);
    POD_CUDA_TRY(cuda, stream_create(&run->stream, CU_STREAM_NON_BLOCKING), "making a stream");
    POD_TRY(take_memory(run));
    POD_CUDA_TRY(cuda,
                 func_set_attribute(cuda->peak_kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                    run->num_stages * POD_PEAK_CHUNK_BYTES),
                 "giving a kernel its shared memory");
    pod_peak_fill_params fill = {(uint32_t *)(uintptr_t)run->data, run->data_bytes / sizeof(uint32_t)};
    return launch(run, cuda->peak_fill_kernel, 0, &fill, "filling memory");
}

static void tear_down(peak_run *run) {
    const pod_cuda_driver *driver = &run->cuda->driver;
    if (run->stream != NULL) {
        driver->stream_synchronize(run->stream);
        driver->stream_destroy(run->stream);
    }
    if (run->data != 0) driver->mem_free(run->data);
    if (run->scratch != 0) driver->mem_free(run->scratch);
    pod__nvml_close(&run->nvml);
}

static pod_status queue_launches(const peak_run *run, pod_peak_mode mode) {
    const pod_cuda_device *cuda = run->cuda;
    pod_peak_params params = {
        .data = (const char *)(uintptr_t)run->data,
        .num_chunks = run->data_bytes / POD_PEAK_CHUNK_BYTES,
        .duration_ns = LAUNCH_MS * (uint64_t)1000000,
        .mode = mode,
        .num_stages = run->num_stages,
        .sm_tickets = (uint32_t *)(uintptr_t)(run->scratch + counts_bytes),
        .counts = (pod_peak_counts *)(uintptr_t)run->scratch,
    };
    POD_CUDA_TRY(cuda, memset_d8_async(run->scratch, 0, counts_bytes, run->stream), "clearing counts");
    for (int i = 0; i < NUM_WARM_UPS + NUM_LAUNCHES; i++, params.counts++) {
        POD_CUDA_TRY(cuda, memset_d8_async(run->scratch + counts_bytes, 0, ticket_bytes, run->stream),
                     "clearing tickets");
        POD_TRY(launch(run, cuda->peak_kernel, (size_t)run->num_stages * POD_PEAK_CHUNK_BYTES, &params,
                       "launching the kernel that measures"));
    }
    return POD_OK;
}

static pod_status measure(const peak_run *run, pod_peak_mode mode, pod_device_rate *rate) {
    const struct timespec until_sample = {SAMPLE_MS / 1000, SAMPLE_MS % 1000 * 1000000L};
    pod_peak_counts counts[NUM_WARM_UPS + NUM_LAUNCHES], sum = {0, 0, 0, 0};
    POD_TRY(queue_launches(run, mode));
    nanosleep(&until_sample, NULL);
    pod__nvml_sample(&run->nvml, &rate->clock_mhz, &rate->power_watts);
    POD_CUDA_TRY(run->cuda, memcpy_dtoh_async(counts, run->scratch, sizeof counts, run->stream), "reading counts");
    POD_CUDA_TRY(run->cuda, stream_synchronize(run->stream), "measuring the GPU");
    for (int i = NUM_WARM_UPS; i < NUM_WARM_UPS + NUM_LAUNCHES; i++) {
        sum.read_bytes += counts[i].read_bytes;
        sum.flop += counts[i].flop;
        sum.read_ns += counts[i].read_ns;
        sum.math_ns += counts[i].math_ns;
    }
    if (sum.read_ns > 0) rate->gb_per_s = (double)sum.read_bytes / (double)sum.read_ns;
    if (sum.math_ns > 0) rate->tflops = (double)sum.flop / (double)sum.math_ns * 1e-3;
    return POD_OK;
}

typedef struct peak_job {
    peak_run *run;
    pod_device_peak *peak;
} peak_job;

static pod_status measure_modes(peak_run *run, pod_device_peak *peak) {
    POD_TRY(set_up(run));
    POD_TRY(measure(run, POD_PEAK_READ, &peak->read));
    POD_TRY(measure(run, POD_PEAK_MATH, &peak->math));
    return measure(run, POD_PEAK_BOTH, &peak->both);
}

static pod_status measure_all(const pod_cuda_device *cuda, void *argument) {
    (void)cuda; /* the run has it */
    const peak_job *job = argument;
    pod_status status = measure_modes(job->run, job->peak);
    tear_down(job->run);
    return status;
}

pod_status pod__cuda_measure_peak(const pod_device *device, pod_device_peak *peak) {
    peak_run run = {.cuda = (const pod_cuda_device *)device};
    if (run.cuda->peak_kernel == NULL || run.cuda->peak_fill_kernel == NULL) {
        return pod__fail(POD_E_UNSUPPORTED, "this library has no kernels that measure %s", run.cuda->name);
    }
    peak_job job = {&run, peak};
    return pod__cuda_in_context(device, measure_all, &job);
}
