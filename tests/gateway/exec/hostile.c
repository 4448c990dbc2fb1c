/* A program of the operator's that was taken over by its document: it tries everything, and says
   what it could do, one line each: a name and an errno, 0 where the kernel let it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void say(const char *name, long result) {
    printf("%s %d\n", name, result < 0 ? errno : 0);
}

static long reach(int family, int kind, const void *to, socklen_t length) {
    int fd = socket(family, kind, 0);
    if (fd < 0) return -1;
    if (connect(fd, to, length) != 0) return -1;
    return write(fd, "x", 1);
}

/* Arguments: two processes, a file, a port, an abstract socket, a socket's path. */
int main(int count, char **words) {
    char document[4096];
    while (read(0, document, sizeof document) > 0) {}
    if (count < 7) return 2;
    const char *file = words[3], *name = words[5], *path = words[6];

    say("open-file", open(file, O_RDONLY));
    say("open-passwd", open("/etc/passwd", O_RDONLY));
    say("list-proc", opendir("/proc/1") ? 0 : -1);
    say("read-environment", open("/proc/self/environ", O_RDONLY));
    say("list-home", opendir("/root") || opendir("/home") ? 0 : -1);
    say("write-root", open("/made", O_CREAT | O_WRONLY, 0600));
    say("write-usr", open("/usr/made", O_CREAT | O_WRONLY, 0600));
    say("write-dev", open("/dev/shm/made", O_CREAT | O_WRONLY, 0600));

    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(atoi(words[4]))};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    say("connect-tcp", reach(AF_INET, SOCK_STREAM, &in, sizeof in));
    say("send-udp", reach(AF_INET, SOCK_DGRAM, &in, sizeof in));
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strncpy(un.sun_path + 1, name, sizeof un.sun_path - 2);
    say("connect-abstract",
        reach(AF_UNIX, SOCK_STREAM, &un, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name)));
    memset(un.sun_path, 0, sizeof un.sun_path);
    strncpy(un.sun_path, path, sizeof un.sun_path - 1);
    say("connect-path", reach(AF_UNIX, SOCK_STREAM, &un, sizeof un));

    for (int at = 1; at <= 2; at++) {
        pid_t pid = atoi(words[at]);
        say("ptrace", ptrace(PTRACE_ATTACH, pid, 0, 0));
        say("signal", kill(pid, SIGTERM));
        struct rlimit none = {0, 0};
        say("limit-others", prlimit(pid, RLIMIT_NOFILE, &none, NULL));
        char byte;
        struct iovec here = {&byte, 1}, there = {(void *)4096, 1};
        say("read-memory", process_vm_readv(pid, &here, 1, &there, 1, 0));
        say("open-process", syscall(SYS_pidfd_open, pid, 0));
    }

    char room[256] = {0};
    say("io-uring", syscall(SYS_io_uring_setup, 4, room));
    say("keyctl", syscall(SYS_keyctl, 0, -3, 1));
    say("add-key", syscall(SYS_add_key, "user", "dayfly", "x", 1, -2));
    say("bpf", syscall(SYS_bpf, 0, room, sizeof room));
    say("unshare", unshare(CLONE_NEWUSER));
    say("new-namespace", syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
    say("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    say("memfd", memfd_create("x", 0));
    say("type-ahead", ioctl(0, TIOCSTI, "x"));

    void *memory = mmap(NULL, 10ul << 30, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    say("allocate", memory == MAP_FAILED ? -1 : 0);
    char piece[1 << 16] = {1};
    /* More files than one: a limit on each is not one on all. */
    long filled = 0;
    signal(SIGXFSZ, SIG_IGN);
    for (char name[] = "/tmp/full-0"; name[10] < '4'; name[10]++) {
        int fd = open(name, O_CREAT | O_WRONLY, 0600);
        while (fd >= 0 && filled < (1l << 30) && write(fd, piece, sizeof piece) > 0)
            filled += sizeof piece;
        close(fd);
    }
    printf("filled %ld\n", filled);

    int children = 0;
    while (children < 10000) {
        pid_t child = fork();
        if (child < 0) break;
        if (child == 0) { pause(); _exit(0); }
        children++;
    }
    say("fork", children < 10000 ? -1 : 0);
    printf("children %d\n", children);

    int variables = 0, descriptors = 0;
    for (char **each = environ; *each; each++) variables++;
    for (int each = 0; each < 4096; each++) descriptors += fcntl(each, F_GETFD) >= 0;
    struct rlimit core;
    getrlimit(RLIMIT_CORE, &core);
    /* 0, 1 and 2, and what was opened above and not closed. */
    printf("variables %d\ndescriptors %d\ncore %ld\n", variables, descriptors,
           (long)core.rlim_max);
    struct __user_cap_header_struct who = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct can[2] = {{0}};
    syscall(SYS_capget, &who, can);
    printf("capabilities %u\n", can[0].permitted | can[1].permitted | can[0].effective);
    printf("privileges %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1);
    printf("session %d\n", getsid(0) > 0);
    const struct { const char *name; int limit; } limits[] = {
        {"limit-memory", RLIMIT_AS}, {"limit-file", RLIMIT_FSIZE},
        {"limit-processes", RLIMIT_NPROC}, {"limit-files", RLIMIT_NOFILE},
        {"limit-seconds", RLIMIT_CPU}, {"limit-locked", RLIMIT_MEMLOCK},
        {"limit-queues", RLIMIT_MSGQUEUE}};
    for (unsigned each = 0; each < sizeof limits / sizeof *limits; each++) {
        struct rlimit limit = {0, 0};
        getrlimit(limits[each].limit, &limit);
        printf("%s %ld\n", limits[each].name, (long)limit.rlim_max);
    }
    fflush(stdout);
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    return 0;
}
