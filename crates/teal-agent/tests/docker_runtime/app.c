/* The app in the test images: one word says what it does. Static, so that it runs FROM scratch. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

static int forever(void) {
    for (;;)
        pause();
}

/* Asks Docker's own name server, as a libc in the image would: prints every IPv4 address of the name. */
static void resolve(const char *name) {
    unsigned char packet[512] = {0, 7, 1, 0, 0, 1};
    int at = 12;
    for (const char *label = name; *label;) {
        size_t length = strcspn(label, ".");
        packet[at++] = length;
        memcpy(packet + at, label, length);
        at += length;
        label += length + (label[length] == '.');
    }
    at++;
    packet[at + 1] = packet[at + 3] = 1; /* A, IN */
    at += 4;
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval patience = {5, 0};
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)};
    inet_pton(AF_INET, "127.0.0.11", &server.sin_addr);
    sendto(sock, packet, at, 0, (struct sockaddr *)&server, sizeof server);
    int question = at;
    ssize_t size = recv(sock, packet, sizeof packet, 0);
    printf("%s", name);
    int answers = size > question ? packet[6] << 8 | packet[7] : 0;
    for (at = question; answers-- > 0 && at + 16 <= size;) {
        while (packet[at] && packet[at] < 0xc0)
            at += packet[at] + 1;
        at += packet[at] ? 2 : 1;
        if (packet[at + 1] == 1)
            printf(" %d.%d.%d.%d", packet[at + 10], packet[at + 11], packet[at + 12], packet[at + 13]);
        at += 10 + (packet[at + 8] << 8 | packet[at + 9]);
    }
    puts("");
    close(sock);
}

/* Mode, owner and text of a file. */
static void show(const char *path) {
    struct stat seen;
    char text[4096] = "";
    FILE *file = fopen(path, "r");
    if (stat(path, &seen) || !file) {
        printf("%s cannot be read\n", path);
        return;
    }
    fread(text, 1, sizeof text - 1, file);
    printf("%s %04o %d:%d %s\n", path, seen.st_mode & 07777, seen.st_uid, seen.st_gid, text);
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
    if (!strcmp(word, "resolve") || !strcmp(word, "show")) {
        for (int i = 2; i < argc; i++)
            *word == 'r' ? resolve(argv[i]) : show(argv[i]);
        return 0;
    }
    if (!strcmp(word, "keep")) { /* a mark in a file: writes it when it is missing, says whose it is */
        if (access(argv[2], F_OK)) {
            FILE *file = fopen(argv[2], "w");
            if (!file || fputs(argv[3], file) < 0 || fclose(file))
                return 1;
        }
        show(argv[2]);
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
