/* The entry of a program of candidate and tests. The token that says the tests have held is read before any code of
   theirs runs, initialisers included, and written once the tests have returned what they were given. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char token[32];
static uint64_t mask;
static int report = -1;

extern uint64_t demiurgic_tests(uint64_t value);

static void take(int count, char **arguments) {
    int job = count == 3 ? atoi(arguments[1]) : -1;
    size_t length = 0;
    ssize_t part;
    while (length < sizeof token && (part = read(job, token + length, sizeof token - length)) > 0) length += part;
    close(job);
    if (length != sizeof token) _exit(70);
    report = atoi(arguments[2]);
    memcpy(&mask, token, sizeof mask);
    mask *= 0x9E3779B97F4A7C15u;
    /* Not left lying in memory as it is written. */
    for (size_t i = 0; i < sizeof token; i++) token[i] ^= (char)(mask >> (i % 8 * 8));
    memset(arguments[1], 0, strlen(arguments[1]));
    memset(arguments[2], 0, strlen(arguments[2]));
}

/* The linker puts the entries of the first object first. */
__attribute__((section(".preinit_array"), used)) static void (*first)(int, char **) = take;

int main(void) {
    if (demiurgic_tests(mask) != ~mask) return 71;
    for (size_t i = 0; i < sizeof token; i++) token[i] ^= (char)(mask >> (i % 8 * 8));
    return write(report, token, sizeof token) == sizeof token ? 0 : 72;
}
