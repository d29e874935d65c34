package dev.vlmp.demo

import android.app.Service
import android.content.Intent
import android.os.IBinder

/**
 * Is there while a task runs, so that Android takes this process for a busy one: in the background it then goes on for
 * about a minute, where others may be frozen within seconds. A service that runs longer would need a permission.
 */
class Work : Service() {
    override fun onBind(intent: Intent?): IBinder? = null

    /** A task ends with its process. */
    override fun onStartCommand(intent: Intent?, flags: Int, startId: Int) = START_NOT_STICKY
}

/** Tells Android when a task begins and ends, and saves what is shown whenever none runs. */
class Watch(private val app: DemoApp, private val demo: Demo) : () -> Unit {
    private var working = false

    override fun invoke() {
        if (demo.free) app.shown.save(demo)
        if (working != demo.free) return
        working = !demo.free
        val service = Intent(app, Work::class.java)
        try {
            if (working) app.startService(service) else app.stopService(service)
        } catch (_: IllegalStateException) {
            // Begun in the background, where no service may start: it runs for as long as Android lets it.
        }
    }
}
