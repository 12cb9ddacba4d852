/* memory.cpp - see memory.h. */
#include "memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#include <sys/mman.h>
#endif

namespace bridge {

#ifdef __GLIBC__
namespace {

/* Smaller blocks are served from memory that the C library keeps anyway. */
constexpr size_t LARGE = size_t{1} << 20;
/* Idle memory beyond this goes back at once. */
constexpr size_t IDLE_MOST = size_t{512} << 20;
constexpr size_t HUGE_PAGE = size_t{2} << 20;
constexpr size_t LINE = 64; /* torch's alignment */

/*
 * New memory, in huge pages where the system gives them on request: that is one page fault instead of 512. Like
 * torch's own it can be given to free(), since a tensor made by either allocator may be given back to the other.
 */
void *new_block(size_t bytes) {
    void *memory = nullptr;
    const size_t alignment = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : LINE;
    if (posix_memalign(&memory, alignment, bytes) != 0) {
        return nullptr;
    }
    if (alignment == HUGE_PAGE) {
        madvise(memory, bytes, MADV_HUGEPAGE); /* a wish: it may be refused */
    }
    return memory;
}

class ReusingAllocator final : public c10::Allocator {
  public:
    c10::DataPtr allocate(size_t bytes) override {
        if (bytes < LARGE) {
            return c10::GetDefaultCPUAllocator()->allocate(bytes);
        }
        void *data = take(bytes);
        if (data == nullptr) {
            data = new_block(bytes);
        }
        if (data == nullptr) { /* its own words for memory that is not there */
            return c10::GetDefaultCPUAllocator()->allocate(bytes);
        }
        return {data, data, &give_back, at::Device(at::DeviceType::CPU)};
    }
    at::DeleterFnPtr raw_deleter() const override { return &give_back; }
    void copy_data(void *to, const void *from, size_t bytes) const override { default_copy_data(to, from, bytes); }

    void open() {
        std::lock_guard<std::mutex> lock(mutex_);
        if (users_++ == 0) {
            before_ = c10::GetCPUAllocator();
            c10::SetCPUAllocator(this);
        }
    }
    void close() {
        std::vector<void *> idle;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            if (--users_ > 0) {
                return;
            }
            if (c10::GetCPUAllocator() == this) {
                c10::SetCPUAllocator(before_);
            }
            for (const auto &block : idle_) {
                idle.push_back(block.second);
            }
            idle_.clear();
            idle_bytes_ = 0;
        }
        for (void *data : idle) {
            std::free(data);
        }
    }

  private:
    /* The smallest idle block that holds `bytes` without wasting an eighth of itself. */
    void *take(size_t bytes) {
        std::lock_guard<std::mutex> lock(mutex_);
        auto found = idle_.lower_bound(bytes);
        if (found == idle_.end() || found->first > bytes + bytes / 8 + HUGE_PAGE) {
            return nullptr;
        }
        void *data = found->second;
        idle_bytes_ -= found->first;
        idle_.erase(found);
        return data;
    }
    static void give_back(void *data);

    std::mutex mutex_;
    size_t users_ = 0;
    size_t idle_bytes_ = 0;
    std::multimap<size_t, void *> idle_; /* by size */
    c10::Allocator *before_ = nullptr;
};

/* Never destroyed: tensors may outlive the module's statics. */
ReusingAllocator &reusing() {
    static auto *allocator = new ReusingAllocator();
    return *allocator;
}

void ReusingAllocator::give_back(void *data) {
    ReusingAllocator &self = reusing();
    const size_t bytes = malloc_usable_size(data);
    if (bytes >= LARGE) {
        std::lock_guard<std::mutex> lock(self.mutex_);
        if (self.users_ > 0 && self.idle_bytes_ + bytes <= IDLE_MOST) {
            self.idle_.emplace(bytes, data);
            self.idle_bytes_ += bytes;
            return;
        }
    }
    std::free(data);
}

} // namespace

void begin_reuse() {
    reusing().open();
}

void end_reuse() {
    reusing().close();
}
#else
void begin_reuse() {}

void end_reuse() {}
#endif

} // namespace bridge
