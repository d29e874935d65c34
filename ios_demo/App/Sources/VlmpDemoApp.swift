import SwiftUI
import UIKit
import VlmpApp

@main
struct VlmpDemoApp: App {
    @State private var model = AppModel.onThisPhone()
    @Environment(\.scenePhase) private var scenePhase

    var body: some Scene {
        WindowGroup {
            RootView(model: model)
                .task { model.start() }
                .onReceive(
                    NotificationCenter.default.publisher(for: UIApplication.didReceiveMemoryWarningNotification)
                ) { _ in model.freeMemory() }
                .onChange(of: scenePhase) { _, phase in
                    if phase == .background { model.leaveScreen() }
                }
                .onChange(of: model.isIdle) { _, idle in
                    // A long answer or benchmark would be stopped by the screen's lock.
                    UIApplication.shared.isIdleTimerDisabled = !idle
                }
        }
    }
}
