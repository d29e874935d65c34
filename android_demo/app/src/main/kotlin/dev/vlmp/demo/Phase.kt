package dev.vlmp.demo

/** What the model is doing. Everything that a page offers depends on it, and on nothing else. */
enum class Phase {
    EMPTY, LOADING, READY, ANSWERING, STOPPING, FAILED;

    /** Whether a task is running: bundles stay where they are, and no other task starts. */
    val busy get() = this == LOADING || this == ANSWERING || this == STOPPING

    /** Whether [next] can follow. */
    fun leadsTo(next: Phase): Boolean = next in when (this) {
        EMPTY -> setOf(LOADING)
        LOADING -> setOf(READY, FAILED)
        READY -> setOf(ANSWERING, LOADING, EMPTY)
        ANSWERING -> setOf(READY, STOPPING, FAILED)
        STOPPING -> setOf(READY, FAILED)
        FAILED -> setOf(LOADING, EMPTY)
    }
}
