// For Android Studio, on the same sources as pom.xml. Written, not run: Google's repository was not at hand.
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}
dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}
rootProject.name = "vlmp-demo"
include(":engine", ":app")
