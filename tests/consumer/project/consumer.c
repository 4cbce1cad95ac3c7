/* SPDX-License-Identifier: Apache-2.0 */
/* Succeeds if the installed header and the installed library are of one version, and a call works. */
#include <podattn.h>
#include <stdio.h>

int header_works_in_cpp(void);

int main(void) {
    if (strcmp(pod_version(), POD_VERSION_STRING) != 0) {
        return fprintf(stderr, "library %s, header %s\n", pod_version(), POD_VERSION_STRING), 1;
    }
    pod_device *device;
    if (pod_device_open("sim:h100", &device) != POD_OK) return fprintf(stderr, "%s\n", pod_error_message()), 1;
    pod_device_close(device);
    return header_works_in_cpp() ? 0 : 1;
}
