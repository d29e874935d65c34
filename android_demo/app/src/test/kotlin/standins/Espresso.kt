package androidx.test.espresso

interface IdlingResource {
    fun getName(): String

    fun isIdleNow(): Boolean

    fun registerIdleTransitionCallback(callback: ResourceCallback)

    interface ResourceCallback {
        fun onTransitionToIdle()
    }
}

class IdlingRegistry {
    fun getLoopers(): Collection<android.os.Looper> = emptyList()

    fun getResources(): Collection<IdlingResource> = emptyList()

    companion object {
        private val instance = IdlingRegistry()

        @JvmStatic
        fun getInstance(): IdlingRegistry = instance
    }
}
