/* An NVIDIA driver that pretends: to be as old, and as broken, as the environment says. */

#include <stdio.h>
#include <stdlib.h>

static int number(const char *name) { return getenv(name) ? atoi(getenv(name)) : 0; }

int cuInit(unsigned flags) { return number("DRIVER_ERROR"); }

int cuDriverGetVersion(int *version) {
    *version = number("DRIVER_VERSION");
    return 0;
}

int cuDeviceGetName(char *name, int size, int device) {
    if (number("DRIVER_VERSION") == 0) return 101; /* no such device */
    snprintf(name, size, "Pretended GPU");
    return 0;
}

int cuGetErrorString(int error, const char **text) {
    *text = "no good";
    return 0;
}
