/* SPDX-License-Identifier: Apache-2.0 */
/* A GPU's clock and power from NVIDIA's management library, loaded at run time. Without it there are none. */
#ifndef POD_CUDA_NVML_H
#define POD_CUDA_NVML_H

typedef struct pod_nvml {
    void *library; /**< NULL: nothing is known */
    void *gpu;
    int (*shutdown)(void);
    int (*get_clock)(void *gpu, int kind, unsigned *mhz);
    int (*get_power)(void *gpu, unsigned *milliwatts);
} pod_nvml;

/** Finds the GPU by its PCI bus, as in "0000:1b:00.0". */
void pod__nvml_open(pod_nvml *nvml, const char *pci_bus);
void pod__nvml_close(pod_nvml *nvml);

/** The SMs' clock and the board's power at this moment; 0 where unknown. */
void pod__nvml_sample(const pod_nvml *nvml, double *clock_mhz, double *power_watts);

#endif
