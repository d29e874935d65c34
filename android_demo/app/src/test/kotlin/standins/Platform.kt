// Robolectric names classes of androidx.test, which only Google's repository has. These take their places: as much of
// them as Robolectric calls in tests that use Robolectric's own controllers.
package androidx.test.platform.app

import android.app.Instrumentation
import android.os.Bundle

object InstrumentationRegistry {
    private var instrumentation: Instrumentation? = null

    @JvmStatic
    fun registerInstance(instance: Instrumentation?, arguments: Bundle?) {
        check(arguments != null)
        instrumentation = instance
    }

    @JvmStatic
    fun getInstrumentation(): Instrumentation = checkNotNull(instrumentation)
}
