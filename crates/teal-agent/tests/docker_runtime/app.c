/* The app in the test images: one word says what it does. Static, so that it runs FROM scratch. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

static int forever(void) {
    for (;;)
        pause();
}

int main(int argc, char **argv) {
    const char *word = argc > 1 ? argv[1] : "serve";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(word, "serve")) {
        signal(SIGTERM, leave);
        signal(SIGUSR1, leave);
        puts("up");
        fputs("warned\n", stderr);
        return forever();
    }
    if (!strcmp(word, "deaf")) {
        signal(SIGTERM, SIG_IGN);
        puts("up");
        return forever();
    }
    if (!strcmp(word, "exit"))
        return atoi(argv[2]);
    if (!strcmp(word, "args")) {
        for (int i = 0; i < argc; i++)
            printf("[%s]", argv[i]);
        puts("");
        return 0;
    }
    if (!strcmp(word, "facts")) {
        char folder[256];
        printf("uid=%d gid=%d cwd=%s A=%s B=%s\n", getuid(), getgid(), getcwd(folder, sizeof folder), getenv("A"), getenv("B"));
        for (int i = 2; i < argc; i++) {
            struct stat seen;
            printf("%s %s\n", argv[i], stat(argv[i], &seen) ? "missing" : access(argv[i], W_OK) ? "read-only" : "writable");
        }
        return 0;
    }
    if (!strcmp(word, "cat")) {
        char block[4096];
        ssize_t n;
        while ((n = read(0, block, sizeof block)) > 0)
            if (write(1, block, n) != n)
                return 1;
        return 7;
    }
    if (!strcmp(word, "sick")) {
        puts("  not well today  ");
        return 1;
    }
    if (!strcmp(word, "long")) {
        for (int i = 0; i < 40000; i++)
            putchar('a' + i % 26);
        puts("");
        for (int i = 0; i < 100; i++)
            printf("line %d\n", i);
        return 0;
    }
    return 64;
}
