/* A stand-in for NVIDIA's driver library (libcuda.so.1) that records calls and runs nothing.
 *
 * cuda-core and cuda-bindings call it as they would call the driver, so a test sees everything that the host does: launches, copies,
 * allocations, events and synchronisation, in order. Device memory is host memory; kernels are not executed, so results are arbitrary.
 * Functions that are not defined here succeed and do nothing.
 *
 * Each line of the log is one call: a name, then key=value. Streams are handles; 1 is the legacy default stream and 0 stands for it.
 * A kernel's name ends with the sizes of its parameters (name.8848: 8, 8, 4 and 8 bytes), because a driver reads them from the code.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef unsigned long long Address;

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, NOT_READY = 600, CAPTURE_UNSUPPORTED = 900 };

/* ---------------- the log, and what tests set ---------------- */

static char *text;
static size_t used, room;

static void record(const char *format, ...) {
    va_list arguments;
    if (room - used < 4096) {
        room = room ? 2 * room : 1 << 20;
        text = realloc(text, room);
    }
    va_start(arguments, format);
    used += vsnprintf(text + used, room - used, format, arguments);
    va_end(arguments);
    text[used++] = '\n';
}

const char *recorder_text(void) {
    if (!text) return "";
    text[used] = 0;
    return text;
}

void recorder_clear(void) { used = 0; }

static long devices = 1, major = 9, minor = 0, pending_events, failing_allocation, created_events, loaded_libraries;
static long live_allocations, live_bytes;
static uint64_t capturing;    /* the stream that is captured into a graph; 0: none */
static uint64_t threshold;    /* the release threshold of the default memory pool */

long *recorder_number(const char *name) {
    struct { const char *name; long *value; } known[] = {
        {"devices", &devices}, {"major", &major}, {"minor", &minor}, {"pending_events", &pending_events},
        {"failing_allocation", &failing_allocation}, {"events", &created_events}, {"libraries", &loaded_libraries},
        {"allocations", &live_allocations}, {"bytes", &live_bytes}, {"capturing", (long *)&capturing}, {"threshold", (long *)&threshold},
    };
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        if (!strcmp(known[k].name, name)) return known[k].value;
    return NULL;
}

/* A call that a stream under capture does not allow. */
static Result not_captured(const char *name) {
    if (!capturing) return SUCCESS;
    record("forbidden call=%s", name);
    return CAPTURE_UNSUPPORTED;
}

#define HANDLE(stream) ((uint64_t)(stream) ? (uint64_t)(stream) : 1)

/* ---------------- devices and contexts ---------------- */

static char context[64];
static __thread void *current;

Result s_cuInit(unsigned flags) { return SUCCESS; }
Result s_cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result s_cuDeviceGetCount(int *count) { *count = (int)devices; return SUCCESS; }
Result s_cuDeviceGet(int *device, int ordinal) { *device = ordinal; return SUCCESS; }
Result s_cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Recording driver"); return SUCCESS; }
Result s_cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 1 + device, 16); return SUCCESS; }
Result s_cuDeviceTotalMem(size_t *bytes, int device) { *bytes = 1ull << 37; return SUCCESS; }

Result s_cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 75: *value = (int)major; break;
    case 76: *value = (int)minor; break;
    case 16: *value = 132; break;         /* multiprocessors */
    case 1: *value = 1024; break;         /* threads of a block */
    case 10: *value = 32; break;          /* threads of a warp */
    case 38: *value = 62914560; break;    /* bytes of the L2 cache */
    case 8: *value = 49152; break;        /* bytes of shared memory of a block */
    default: *value = 1;                  /* memory pools, clusters, ... are there */
    }
    return SUCCESS;
}

Result s_cuDevicePrimaryCtxRetain(void **c, int device) { *c = context + device; return SUCCESS; }
Result s_cuDevicePrimaryCtxRelease(int device) { return SUCCESS; }
Result s_cuCtxGetCurrent(void **c) { *c = current; return SUCCESS; }
Result s_cuCtxSetCurrent(void *c) { current = c; return SUCCESS; }
Result s_cuCtxPushCurrent(void *c) { current = c; return SUCCESS; }
Result s_cuCtxPopCurrent(void **c) { *c = current; return SUCCESS; }
Result s_cuCtxGetDevice(int *device) { *device = current ? (int)((char *)current - context) : 0; return SUCCESS; }
Result s_cuCtxGetId(void *c, unsigned long long *id) { *id = 1; return SUCCESS; }
Result s_cuCtxSynchronize(void) { record("synchronize context"); return not_captured("cuCtxSynchronize"); }
Result s_cuMemGetInfo(size_t *unused, size_t *total) { *unused = 1ull << 36; *total = 1ull << 37; return SUCCESS; }
Result s_cuGetErrorName(int error, const char **name) { *name = "RECORDED"; return SUCCESS; }
Result s_cuGetErrorString(int error, const char **string) { *string = "an error that the test asked for"; return SUCCESS; }

/* ---------------- streams and events ---------------- */

static uint64_t next_stream = 0x1000;

Result s_cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) { *stream = (void *)(next_stream += 16); return SUCCESS; }
Result s_cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)(next_stream += 16); return SUCCESS; }
Result s_cuStreamDestroy(void *stream) { return SUCCESS; }
Result s_cuStreamGetCtx(void *stream, void **c) { *c = context; return SUCCESS; }
Result s_cuStreamGetFlags(void *stream, unsigned *flags) { *flags = 0; return SUCCESS; }
Result s_cuStreamGetDevice(void *stream, int *device) { *device = 0; return SUCCESS; }
Result s_cuStreamGetId(void *stream, unsigned long long *id) { *id = HANDLE(stream); return SUCCESS; }
Result s_cuStreamIsCapturing(void *stream, int *status) { *status = capturing == HANDLE(stream); return SUCCESS; }

Result s_cuStreamSynchronize(void *stream) {
    record("synchronize stream=%lu", HANDLE(stream));
    return not_captured("cuStreamSynchronize");
}

Result s_cuEventCreate(void **event, unsigned flags) { *event = malloc(8); created_events++; return SUCCESS; }
Result s_cuEventDestroy(void *event) { free(event); created_events--; return SUCCESS; }
Result s_cuEventRecord(void *event, void *stream) { record("record event=%lu stream=%lu", (uint64_t)event, HANDLE(stream)); return SUCCESS; }

Result s_cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    record("wait event=%lu stream=%lu", (uint64_t)event, HANDLE(stream));
    return SUCCESS;
}

Result s_cuEventSynchronize(void *event) { record("synchronize event=%lu", (uint64_t)event); return not_captured("cuEventSynchronize"); }
Result s_cuEventQuery(void *event) { record("query event=%lu", (uint64_t)event); return pending_events ? NOT_READY : SUCCESS; }
Result s_cuEventElapsedTime(float *milliseconds, void *first, void *second) { *milliseconds = 1; return SUCCESS; }

/* ---------------- memory ---------------- */

static char default_pool[8];

Result s_cuDeviceGetDefaultMemPool(void **pool, int device) { *pool = default_pool; return SUCCESS; }
Result s_cuDeviceGetMemPool(void **pool, int device) { *pool = default_pool; return SUCCESS; }
Result s_cuMemPoolCreate(void **pool, const void *properties) { *pool = malloc(8); record("create pool=%lu", (uint64_t)*pool); return SUCCESS; }
Result s_cuMemPoolDestroy(void *pool) { record("destroy pool=%lu", (uint64_t)pool); return SUCCESS; }

Result s_cuMemPoolGetAttribute(void *pool, int attribute, void *value) {
    *(uint64_t *)value = pool == default_pool && attribute == 4 ? threshold : 0;
    return SUCCESS;
}

Result s_cuMemPoolSetAttribute(void *pool, int attribute, void *value) {
    record("set pool=%s attribute=%d", pool == default_pool ? "default" : "own", attribute);
    if (pool == default_pool && attribute == 4) threshold = *(uint64_t *)value;
    return SUCCESS;
}

static Result allocate(Address *address, size_t bytes, const char *name, void *stream) {
    if (failing_allocation && !--failing_allocation) return OUT_OF_MEMORY;
    size_t *block = aligned_alloc(256, 256 + (bytes + 255) / 256 * 256);
    *block = bytes;
    *address = (Address)block + 256;
    live_allocations++;
    live_bytes += (long)bytes;
    record("%s address=%llu bytes=%zu stream=%lu", name, *address, bytes, HANDLE(stream));
    return SUCCESS;
}

static Result release(Address address, const char *name, void *stream) {
    size_t *block = (size_t *)(address - 256);
    record("%s address=%llu stream=%lu", name, address, HANDLE(stream));
    live_allocations--;
    live_bytes -= (long)*block;
    free(block);
    return SUCCESS;
}

Result s_cuMemAllocFromPoolAsync(Address *a, size_t bytes, void *pool, void *stream) { return allocate(a, bytes, "allocate", stream); }
Result s_cuMemAllocAsync(Address *a, size_t bytes, void *stream) { return allocate(a, bytes, "allocate", stream); }
Result s_cuMemFreeAsync(Address a, void *stream) { return release(a, "free", stream); }

Result s_cuMemAlloc(Address *a, size_t bytes) {
    Result refused = not_captured("cuMemAlloc");
    return refused ? refused : allocate(a, bytes, "allocate_synchronously", NULL);
}

Result s_cuMemFree(Address a) { return release(a, "free_synchronously", NULL); }
Result s_cuMemAllocHost(void **p, size_t bytes) { *p = aligned_alloc(256, (bytes + 255) / 256 * 256); return SUCCESS; }
Result s_cuMemHostAlloc(void **p, size_t bytes, unsigned flags) { return s_cuMemAllocHost(p, bytes); }
Result s_cuMemFreeHost(void *p) { free(p); return SUCCESS; }

Result s_cuMemcpyHtoDAsync(Address target, const void *source, size_t bytes, void *stream) {
    record("host_to_device bytes=%zu stream=%lu", bytes, HANDLE(stream));
    memcpy((void *)target, source, bytes);
    return not_captured("cuMemcpyHtoDAsync");
}

Result s_cuMemcpyDtoHAsync(void *target, Address source, size_t bytes, void *stream) {
    record("device_to_host bytes=%zu stream=%lu", bytes, HANDLE(stream));
    memcpy(target, (void *)source, bytes);
    return not_captured("cuMemcpyDtoHAsync");
}

Result s_cuMemcpyDtoDAsync(Address target, Address source, size_t bytes, void *stream) {
    record("device_to_device bytes=%zu stream=%lu", bytes, HANDLE(stream));
    return SUCCESS;
}

Result s_cuMemcpyAsync(Address target, Address source, size_t bytes, void *stream) {
    record("copy bytes=%zu stream=%lu", bytes, HANDLE(stream));
    memcpy((void *)target, (void *)source, bytes);
    return SUCCESS;
}

Result s_cuMemsetD8Async(Address address, unsigned char value, size_t bytes, void *stream) {
    record("set bytes=%zu stream=%lu", bytes, HANDLE(stream));
    memset((void *)address, value, bytes);
    return SUCCESS;
}

Result s_cuMemsetD2D32Async(Address address, size_t pitch, unsigned value, size_t width, size_t height, void *stream) {
    record("set address=%llu bytes=%zu stream=%lu", address, 4 * width * height, HANDLE(stream));
    for (size_t row = 0; row < height; row++)
        for (size_t k = 0; k < width; k++) ((unsigned *)(address + row * pitch))[k] = value;
    return SUCCESS;
}

Result s_cuPointerGetAttribute(void *value, int attribute, Address address) {
    *(unsigned *)value = attribute == 2 ? 2 : 0; /* the type of the memory: the device's */
    return SUCCESS;
}

Result s_cuPointerGetAttributes(unsigned count, int *attributes, void **values, Address address) {
    for (unsigned k = 0; k < count; k++) *(unsigned *)values[k] = attributes[k] == 2 ? 2 : 0;
    return SUCCESS;
}

/* ---------------- kernels ---------------- */

Result s_cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
    *library = malloc(8);
    loaded_libraries++;
    record("load");
    return SUCCESS;
}

Result s_cuLibraryUnload(void *library) { loaded_libraries--; return SUCCESS; }
Result s_cuLibraryGetKernel(void **kernel, void *library, const char *name) { *kernel = strdup(name); return SUCCESS; }
Result s_cuKernelGetFunction(void **function, void *kernel) { *function = kernel; return SUCCESS; }
Result s_cuKernelGetParamInfo(void *kernel, size_t index, size_t *offset, size_t *bytes) { return 1; }

static void record_launch(const char *name, unsigned grid, unsigned block, void *stream, unsigned cluster, void **parameters) {
    const char *sizes = strrchr(name, '.');
    char line[2048];
    int length = 0;
    line[0] = 0;
    for (int k = 0; sizes && parameters && sizes[k + 1] && length < 1900; k++) {
        uint64_t value = sizes[k + 1] == '8' ? *(uint64_t *)parameters[k] : *(uint32_t *)parameters[k];
        length += sprintf(line + length, "%s%lu", k ? "," : "", value);
    }
    record("launch kernel=%s grid=%u block=%u cluster=%u stream=%lu parameters=%s", name, grid, block, cluster, HANDLE(stream), line);
}

Result s_cuLaunchKernelEx(const void *configuration, void *function, void **parameters, void **extra) {
    const unsigned *sizes = configuration; /* CUlaunchConfig: grid, block, bytes of shared memory, stream, attributes */
    void *stream = *(void **)((char *)configuration + 32);
    const char *attributes = *(char **)((char *)configuration + 40);
    unsigned count = *(unsigned *)((char *)configuration + 48), cluster = 1;
    for (unsigned k = 0; k < count; k++)
        if (*(const int *)(attributes + 72 * k) == 4) cluster = *(const unsigned *)(attributes + 72 * k + 8);
    record_launch(function, sizes[0], sizes[3], stream, cluster, parameters);
    return SUCCESS;
}

Result s_cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                        void *stream, void **parameters, void **extra) {
    record_launch(function, gx, bx, stream, 1, parameters);
    return SUCCESS;
}

/* ---------------- how bindings find the functions ---------------- */

static Result nothing(void) { return SUCCESS; }

Result cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    static void *self;
    char name[256];
    if (!self) {
        Dl_info info;
        dladdr((void *)recorder_clear, &info);
        self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }
    snprintf(name, sizeof name, "s_%s", symbol);
    *function = self ? dlsym(self, name) : NULL;
    if (!strcmp(symbol, "cuGetProcAddress")) *function = (void *)cuGetProcAddress_v2;
    if (!*function) *function = (void *)nothing;
    if (status) *status = 0;
    return SUCCESS;
}

Result cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}

Result cuInit(unsigned flags) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { return s_cuDriverGetVersion(version); }
