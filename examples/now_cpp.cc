// ckpt_now() from C++, as a class that checkpoints every so many steps.
//
//   g++ -m32 -O2 -Iinclude -o now_cpp examples/now_cpp.cc
//   LD_PRELOAD=$PWD/build/libselfckpt.so ./now_cpp
#include <selfckpt.h>

#include <cstdio>
#include <cstring>

class Checkpoints {
public:
    explicit Checkpoints(int every) : every(every) {}

    void at(int step) const
    {
        if (!ckpt_available() || step % every != 0)
            return;
        int generation = ckpt_now();
        if (generation > 0)
            std::fprintf(stderr, "step %d: generation %d is written\n", step, generation);
        else if (generation == 0)
            std::fprintf(stderr, "step %d: restarted from generation %d\n", step, ckpt_generation());
        else
            std::fprintf(stderr, "step %d: no checkpoint: %s\n", step, std::strerror(errno));
    }

private:
    int every;
};

int main()
{
    if (!ckpt_available())
        std::fprintf(stderr, "runs without checkpoints: libselfckpt.so is not loaded\n");
    Checkpoints checkpoints(25000000);
    unsigned sum = 1;
    for (int step = 1; step <= 100000000; step++) {
        sum = sum * 1664525u + 1013904223u;
        checkpoints.at(step);
    }
    std::printf("%u\n", sum);
}
